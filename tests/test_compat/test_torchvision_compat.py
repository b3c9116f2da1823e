import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

import mmdml  # noqa: F401
from mmdml.compat import torchvision_compat

# A torchvision whose library does not load: the same file names and the same order of imports as the real one.
EXTENSION = 'def _has_ops():\n    return {whole}\n'
BROKEN_INIT = 'from . import extension\nfrom . import _meta_registrations\n'
META = (
    'import torch\n'
    "@torch.library.register_fake('torchvision::nms')\n"
    'def nms(dets, scores, iou_threshold):\n'
    '    return dets.new_empty(0)\n'
    "@torch.library.register_fake('torchvision::qnms')\n"
    'def qnms(dets, scores, iou_threshold):\n'
    '    return dets.new_empty(0)\n'
)


@pytest.fixture
def broken_torchvision(tmp_path):
    package = tmp_path / 'torchvision'
    package.mkdir()
    (package / '__init__.py').write_text(BROKEN_INIT)
    (package / 'extension.py').write_text(EXTENSION.format(whole=False))
    (package / '_meta_registrations.py').write_text(META)
    return tmp_path


def run_python(code: str, path) -> subprocess.CompletedProcess:
    code = f'import sys; sys.path.insert(0, {str(path)!r})\n{code}'
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)


def test_torchvision_without_its_library_fails_without_mmdml(broken_torchvision):
    result = run_python('import torchvision', broken_torchvision)
    assert result.returncode != 0
    assert 'torchvision::nms does not exist' in result.stderr


def test_torchvision_without_its_library_imports_after_mmdml(broken_torchvision):
    code = (
        'import mmdml, torchvision\n'
        'from mmdml.compat.torchvision_compat import is_patched\n'
        'print(torchvision.__file__, is_patched())'
    )
    result = run_python(code, broken_torchvision)
    assert result.stdout.split() == [str(broken_torchvision / 'torchvision' / '__init__.py'), 'True'], result.stderr


def test_torchvision_that_failed_before_mmdml_imports_after_it(broken_torchvision):
    code = (
        'try:\n'
        '    import torchvision\n'
        'except RuntimeError:\n'
        '    print("failed")\n'
        'import mmdml, torchvision\n'
        'print("imported")'
    )
    result = run_python(code, broken_torchvision)
    assert result.stdout.split() == ['failed', 'imported'], result.stderr


def test_nothing_is_defined_where_torchvision_is_whole():
    code = (
        'import types, torch\n'
        'from mmdml.compat.torchvision_compat import define_missing_operators, is_patched\n'
        'define_missing_operators(types.SimpleNamespace(_has_ops=lambda: True))\n'
        'print(is_patched(), hasattr(torch.ops.torchvision, "nms"))'
    )
    result = run_python(code, '.')
    assert result.stdout.split() == ['False', 'False'], result.stderr


def test_defining_twice_defines_once():
    torchvision_compat.define_missing_operators(SimpleNamespace(_has_ops=lambda: False))
    count = len(torchvision_compat._libraries)
    torchvision_compat.define_missing_operators(SimpleNamespace(_has_ops=lambda: False))
    assert len(torchvision_compat._libraries) == count
    assert hasattr(torch.ops.torchvision, 'nms') and hasattr(torch.ops.torchvision, 'qnms')


def test_the_installed_torchvision_imports_and_runs_a_transform_and_a_model():
    import torchvision

    image = torchvision.transforms.Resize(8)(torch.zeros(3, 16, 16))
    assert image.shape == (3, 8, 8)
    assert torchvision.models.resnet18(weights=None).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)
