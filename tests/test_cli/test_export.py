"""``mmdml export`` as a command."""

import json

import pytest
import torch
from test_embed import mmdml
from tiny import tiny_config

from mmdml.apis import get_model
from mmdml.export import ExportedEmbedder


@pytest.mark.slow
def test_a_model_is_exported_and_mistakes_end_in_a_line(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path)
    torch.save({'state_dict': get_model(cfg.copy()).state_dict()}, tmp_path / 'model.pth')
    cfg.dump(str(tmp_path / 'tiny.py'))
    arguments = ('export', f'{tmp_path}/tiny.py:{tmp_path}/model.pth', '--out', tmp_path / 'model.onnx')
    wrong = mmdml(*arguments, status=1).stderr.strip().splitlines()
    assert len(wrong) == 1 and wrong[0].startswith('error: ') and '--image-size 28' in wrong[0]
    report = json.loads(mmdml(*arguments, '--image-size', 28, '--json').stdout)
    assert report['lowest_cosine'] > 0.9999 and report['dimensions'] == 6
    assert ExportedEmbedder(tmp_path / 'model.onnx').preparation.as_dict() == report['input']


def test_a_size_is_1_or_more(tmp_path):
    error = mmdml('export', 'default', '--out', tmp_path / 'model.onnx', '--image-size', 0, status=2).stderr
    assert "Invalid value for '--image-size'" in error
