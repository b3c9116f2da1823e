import importlib
import subprocess
import sys

import pytest

from mmdml.compat.import_hooks import after_import


@pytest.fixture
def module_file(tmp_path, monkeypatch):
    """A module that is imported nowhere else; gives its path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / 'mmdml_hooked_module.py'
    path.write_text('value = 1\n')
    yield path
    sys.modules.pop('mmdml_hooked_module', None)


def run_python(code: str, *options: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *options, '-c', code], capture_output=True, text=True, timeout=120, **kwargs)


def test_callback_runs_after_the_module_body_and_only_once(module_file):
    seen = []
    after_import('mmdml_hooked_module', lambda module: seen.append(module.value))
    assert seen == []
    module = importlib.import_module('mmdml_hooked_module')
    assert seen == [1]
    importlib.reload(module)
    assert seen == [1]


def test_callback_runs_at_once_where_the_module_is_already_imported(module_file):
    importlib.import_module('mmdml_hooked_module')
    seen = []
    after_import('mmdml_hooked_module', lambda module: seen.append(module.value))
    assert seen == [1]


def test_every_callback_of_a_module_runs_in_order(module_file):
    seen = []
    after_import('mmdml_hooked_module', lambda module: seen.append('first'))
    after_import('mmdml_hooked_module', lambda module: seen.append('second'))
    importlib.import_module('mmdml_hooked_module')
    assert seen == ['first', 'second']


def test_callback_still_runs_when_a_failed_import_is_tried_again(module_file):
    module_file.write_text('raise ImportError("not yet")\n')
    seen = []
    after_import('mmdml_hooked_module', lambda module: seen.append(module.value))
    with pytest.raises(ImportError, match='not yet'):
        importlib.import_module('mmdml_hooked_module')
    assert seen == []
    module_file.write_text('value = 12345\n')  # another length: a cached byte code of the old text is not reused
    importlib.invalidate_caches()
    importlib.import_module('mmdml_hooked_module')
    assert seen == [12345]


def test_looking_for_a_module_without_importing_it_runs_nothing(module_file):
    seen = []
    after_import('mmdml_hooked_module', lambda module: seen.append(module.value))
    assert importlib.util.find_spec('mmdml_hooked_module') is not None
    assert seen == []
    importlib.import_module('mmdml_hooked_module')
    assert seen == [1]


def test_watching_a_module_that_does_not_exist_leaves_its_import_error_alone():
    after_import('mmdml_no_such_module', lambda module: None)
    with pytest.raises(ModuleNotFoundError, match='mmdml_no_such_module'):
        importlib.import_module('mmdml_no_such_module')


def test_import_mmdml_imports_no_heavy_library():
    code = (
        'import sys, mmdml, mmdml.compat.safe_checkpoint\n'
        "heavy = {'torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain', 'numpy', 'cv2', 'faiss'}\n"
        'print(sorted(heavy & set(sys.modules)))'
    )
    result = run_python(code)
    assert result.stdout.strip() == '[]', result.stderr


@pytest.mark.parametrize('first, second', [('mmdml', 'mmengine.config'), ('mmengine.config', 'mmdml')])
def test_mmengine_knows_the_config_scope_whichever_is_imported_first(first, second):
    code = f"import {first}, {second}; from mmengine.config.utils import MODULE2PACKAGE as m; print(m['mmdml'])"
    result = run_python(code)
    assert result.stdout.strip() == 'mmdml', result.stderr
