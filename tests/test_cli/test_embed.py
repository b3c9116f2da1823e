"""``mmdml embed`` as a command, and the help of ``mmdml``."""

import subprocess
import sys

import pytest
import torch
from tiny import tiny_config

from mmdml.apis import get_model


def mmdml(*arguments, status=0):
    command = [sys.executable, '-m', 'mmdml.cli.main', *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done


def test_help_loads_no_torch_and_shows_each_command():
    code = (
        'import sys; from click.testing import CliRunner; from mmdml.cli.main import COMMANDS, main\n'
        'assert all(name in CliRunner().invoke(main, ["--help"]).output for name in COMMANDS)\n'
        'for name in COMMANDS: assert "Example:" in CliRunner().invoke(main, [name, "--help"]).output\n'
        'assert not {"torch", "mmengine", "numpy", "cv2"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.slow
def test_a_folder_is_embedded_and_mistakes_end_in_a_line(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path)
    torch.save({'state_dict': get_model(cfg.copy()).state_dict()}, tmp_path / 'model.pth')
    cfg.dump(str(tmp_path / 'tiny.py'))
    model = f'{tmp_path}/tiny.py:{tmp_path}/model.pth'
    arguments = ('embed', pictures, '--out', tmp_path / 'out', '--device', 'cpu', '--model')
    assert mmdml(*arguments, model, '--shard-size', 20).stdout == '36 embeddings in 2 files\n'
    wrong = mmdml(*arguments, model, '--shard-size', 30, status=1).stderr.strip().splitlines()
    assert wrong[-1].startswith('error: ') and 'another shard_size (20, not 30)' in wrong[-1]
    assert 'no weights were published' in mmdml(*arguments, tmp_path / 'tiny.py', status=1).stderr
