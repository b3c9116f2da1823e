"""A wheel built from a clone works away from the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CONFIG = 'iaa/iaa_ms_r50_cub.py'


def run(*command: str | Path, **kwargs) -> str:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, **kwargs)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def tracked_files() -> list[str]:
    """What a clone of the next commit would hold: files known to git, and new ones that it does not ignore."""
    listed = run('git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard', cwd=ROOT)
    return [name for name in listed.split('\0') if name and os.path.lexists(ROOT / name)]


@pytest.fixture(scope='module')
def clone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('clone')
    for name in tracked_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


@pytest.fixture(scope='module')
def wheel(clone, tmp_path_factory) -> Path:
    leftover = clone / 'build' / 'lib' / 'mmdml' / 'deleted_module.py'
    leftover.parent.mkdir(parents=True)
    leftover.write_text('')
    folder = tmp_path_factory.mktemp('wheel')
    options = ('--no-deps', '--no-build-isolation', '--no-index', '--wheel-dir', folder)
    run(sys.executable, '-m', 'pip', 'wheel', *options, clone)
    (built,) = folder.glob('mmdml-*.whl')
    return built


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('installed')
    run(sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-index', '--target', folder, wheel)
    return folder


def run_away(code: str, installed: Path, cwd: Path) -> str:
    """Run Python away from the checkout, with the installed wheel before anything else."""
    return run(sys.executable, '-c', code, cwd=cwd, env={**os.environ, 'PYTHONPATH': str(installed)})


def names_below(folder: str) -> set[str]:
    return {name.removeprefix(folder) for name in tracked_files() if name.startswith(folder)}


def test_wheel_holds_every_config_tool_and_default_data_file(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f'mmdml/.mim/{link}{name}' for link in ('configs/', 'tools/') for name in names_below(link)} | {
        f'mmdml/{data}{name}' for data in ('datasets/data/', 'shipped/') for name in names_below(f'mmdml/{data}')
    }
    assert f'mmdml/.mim/configs/{CONFIG}' in expected
    assert expected <= names
    assert 'mmdml/.mim/model-index.yml' in names
    for data in ('omniglot', 'grocery_gallery'):
        assert [name for name in names if name.startswith(f'mmdml/datasets/data/{data}/')]


def test_wheel_holds_every_module_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {f'mmdml/{name}' for name in names_below('mmdml/') if name.endswith('.py')}
    found = {name for name in names if name.endswith('.py') and not name.startswith('mmdml/.mim/')}
    assert found == modules
    assert not [name for name in names if name.endswith('.pyc') or name.startswith('tests')]


def test_wheel_keeps_the_shell_scripts_executable(wheel):
    scripts = [info for info in zipfile.ZipFile(wheel).infolist() if info.filename.endswith('.sh')]
    assert scripts
    assert [info.filename for info in scripts if not (info.external_attr >> 16) & 0o100] == []


def test_installed_package_is_imported_away_from_the_checkout(installed, tmp_path):
    code = 'import mmdml, mmdml.registry; print(mmdml.__file__)'
    assert run_away(code, installed, tmp_path).strip() == str(installed / 'mmdml' / '__init__.py')


def test_config_elsewhere_inherits_from_the_installed_package(installed, tmp_path):
    (tmp_path / 'mine.py').write_text(f"_base_ = ['mmdml::{CONFIG}']\nwork_dir = 'elsewhere'\n")
    code = (
        'import mmdml\n'
        'from mmengine.config import Config\n'
        "mine = Config.fromfile('mine.py')\n"
        f'base = Config.fromfile({str(installed / "mmdml/.mim/configs" / CONFIG)!r})\n'
        'print(mine.work_dir, "_scope_" in mine.model, mine.model == base.model)\n'
    )
    assert run_away(code, installed, tmp_path).split() == ['elsewhere', 'False', 'True']


def test_installed_package_builds_its_default_data_set(installed, tmp_path):
    code = (
        'import mmdml\n'
        'from mmdml.registry import DATASETS\n'
        "print(len(DATASETS.build(dict(type='Omniglot', split='test'))))\n"
    )
    assert int(run_away(code, installed, tmp_path).split()[-1]) == 659 * 20


@pytest.mark.parametrize('tool', ['analysis_tools/make_tables.py', 'misc/make_model_zoo.py'])
def test_tools_of_the_checkout_say_so_in_an_installed_package(installed, tmp_path, tool):
    before = sorted(installed.rglob('*.md'))
    command = [sys.executable, installed / 'mmdml/.mim/tools' / tool]
    env = {**os.environ, 'PYTHONPATH': str(installed)}
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert result.returncode == 2 and 'Traceback' not in result.stderr
    assert 'in a checkout of mmdml, not in an installed package' in result.stderr
    assert sorted(installed.rglob('*.md')) == before


def test_the_results_driver_plans_runs_from_an_installed_package(installed, tmp_path):
    (tmp_path / 'mine.py').write_text(f"_base_ = ['mmdml::{CONFIG}']\n")
    (tmp_path / 'plan.yml').write_text('items: [{name: mine, config: mine.py, seeds: [0], estimate_minutes: 30}]\n')
    script = installed / 'mmdml/.mim/tools/analysis_tools/run_experiments.py'
    env = {**os.environ, 'PYTHONPATH': str(installed)}
    text = run(sys.executable, script, 'plan.yml', '--dry-run', cwd=tmp_path, env=env)
    assert '30.0 min  mine mine.py seed=0' in text and '1 of 1 runs to do: estimated 0.50 h' in text


def test_sdist_builds_the_same_wheel(clone, wheel, tmp_path):
    run(sys.executable, '-m', 'build', '--sdist', '--no-isolation', '--outdir', tmp_path, clone)
    (sdist,) = tmp_path.glob('mmdml-*.tar.gz')
    options = ('--no-deps', '--no-build-isolation', '--no-index', '--wheel-dir', tmp_path)
    run(sys.executable, '-m', 'pip', 'wheel', *options, sdist)
    (rebuilt,) = tmp_path.glob('mmdml-*.whl')
    assert set(zipfile.ZipFile(rebuilt).namelist()) == set(zipfile.ZipFile(wheel).namelist())
