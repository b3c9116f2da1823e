"""What an import of one layer loads: none of the other layers beside it, and nothing heavy that it does not need."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import mmdml

BESIDE_EACH_OTHER = ('datasets', 'models', 'engine', 'evaluation')
ROOT = Path(mmdml.__file__).parent


def loaded_by(statement):
    """Names of the modules that a fresh interpreter has after a statement."""
    code = f'{statement}\nimport sys\nprint("\\n".join(sys.modules))'
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    return set(run.stdout.split('\n'))


@pytest.mark.parametrize('package', BESIDE_EACH_OTHER)
def test_packages_beside_each_other_load_none_of_one_another(package):
    modules = loaded_by(f'import mmdml.{package}')
    assert f'mmdml.{package}' in modules
    assert not [name for other in BESIDE_EACH_OTHER if other != package for name in modules if name == f'mmdml.{other}']


def test_models_load_neither_faiss_nor_scipy_nor_any_hook():
    modules = loaded_by('import mmdml.models')
    assert not {name.partition('.')[0] for name in modules} & {'faiss', 'scipy', 'sklearn'}
    assert not [name for name in modules if name.startswith('mmdml') and 'hook' in name and 'import_hooks' not in name]


def test_structures_and_functions_on_embeddings_do_not_load_mmengine():
    modules = loaded_by('import mmdml.structures, mmdml.functional.kmeans, mmdml.dist')
    assert not [name for name in modules if name.partition('.')[0] in ('mmengine', 'mmcv', 'mmpretrain')]


def test_ranks_communicate_in_one_file():
    # The launchers start ranks, make and end their group, and send nothing through it.
    exempt = {'dist.py', 'cli/launch.py', 'cli/torchrun.py'}
    ways = re.compile(r'^\s*(from|import) mmengine\.dist|torch\.distributed[ .]|from torch import.*\bdistributed')
    found = [
        f'{path.relative_to(ROOT)}: {line.strip()}'
        for path in sorted(ROOT.rglob('*.py'))
        if path.relative_to(ROOT).as_posix() not in exempt
        for line in path.read_text().splitlines()
        if ways.search(line)
    ]
    assert not found
