import subprocess
import sys

import mmdml


def test_the_report_names_every_part_and_its_distribution():
    command = [sys.executable, '-W', 'error::RuntimeWarning', '-m', 'mmdml.utils.collect_env']
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    report = dict(line.split(': ', 1) for line in result.stdout.splitlines())
    assert list(report) == [
        *('python', 'torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain', 'faiss', 'opencv', 'mmdml', 'git commit')
    ]
    for name in ('mmengine', 'mmcv', 'mmpretrain'):
        assert report[name].endswith(f'(from onedl-{name})')
    assert 'whole' in report['torchvision'] or 'patched' in report['torchvision']
    assert report['mmdml'] == mmdml.__version__


def test_a_library_that_cannot_be_imported_is_reported_not_raised(tmp_path):
    (tmp_path / 'faiss.py').write_text('raise OSError("libfoo.so is missing")\n')
    code = f'import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom mmdml.utils.collect_env import main; main()'
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert 'faiss: cannot be imported (OSError: libfoo.so is missing)' in result.stdout, result.stderr
