"""What is told of a training: scores of the metrics that the recipe names, before and after."""

import pytest
from click.testing import CliRunner
from mmengine.logging import MessageHub

from mmdml.apis.model_folder import ModelFolder
from mmdml.cli.main import main
from mmdml.cli.trained_model import scores_before_and_after
from mmdml.engine.hooks.console_hook import SCORES_BEFORE


def test_a_recipe_with_metrics_of_its_own_is_scored_by_them_before_and_after(pictures, start, tmp_path):
    (tmp_path / 'mine.py').write_text(
        "_base_ = ['mmdml::recommended/frozen_backbone.py']\n"
        "val_evaluator = dict(metrics=('MAP@R',), recall_at=(), distance='euclidean')\n"
    )
    train = ['train', pictures, '--model', start, '--recipe', tmp_path / 'mine.py', '--out', tmp_path / 'run']
    done = CliRunner().invoke(main, list(map(str, [*train, '--epochs', 1, '--workers', 0])))
    assert done.exit_code == 0, done.output
    scores = ModelFolder.read(tmp_path / 'run-1').training['scores']
    assert list(scores) == ['MAP@R']
    before, after = scores['MAP@R']
    assert f'run-1: MAP@R {before:.1f} before, {after:.1f} after the training' in done.output


def test_what_only_one_evaluation_has_is_left_out():
    hub = MessageHub('of this test')
    assert scores_before_and_after(hub) == {}
    hub.update_info(SCORES_BEFORE, {'retrieval/Recall@1': 50.0, 'retrieval/Recall@2': 60.0})
    hub.update_scalars({'val/retrieval/Recall@1': 70.0, 'val/retrieval/Recall@16': 90.0, 'val/time': 1.0})
    assert scores_before_and_after(hub) == {'Recall@1': pytest.approx([50.0, 70.0])}
