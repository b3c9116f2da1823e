"""mmdml/cli/embedding_output.py: embeddings of a test run, also of pictures without labels or positives."""

import os
import shutil
import uuid

import numpy as np
import pytest
from mmengine.runner import Runner
from tiny import tiny_config

from mmdml.cli.embedding_output import write_embeddings
from mmdml.functional.embedding_files import read_embeddings
from mmdml.utils.weights_hash import weights_hash

PLAIN = 'multi_similarity/ms_conv4_omniglot.py'


def runner_of(folder, work_dir, **dataset):
    cfg = tiny_config(str(folder), work_dir, config=PLAIN)
    cfg.test_dataloader.dataset.update(split='test', **dataset)
    cfg.experiment_name = uuid.uuid4().hex
    return Runner.from_cfg(cfg)


def test_pictures_without_classes_are_embedded(pictures, tmp_path):
    for name in sorted(os.listdir(pictures))[:3]:
        for number, file in enumerate(sorted(os.listdir(f'{pictures}/{name}'))):
            os.makedirs(tmp_path / 'loose', exist_ok=True)
            shutil.copy(f'{pictures}/{name}/{file}', tmp_path / 'loose' / f'{name}_{number}{os.path.splitext(file)[1]}')
    runner = runner_of(tmp_path / 'loose', tmp_path, unlabeled=True)
    write_embeddings(runner, str(tmp_path / 'out/e.npz'), score=False)
    assert runner.test() == {}
    saved = np.load(tmp_path / 'out/e.npz')
    assert 'labels' not in saved and str(saved['model_hash']) == weights_hash(runner.model)
    assert sorted(map(os.path.basename, saved['paths'])) == sorted(os.listdir(tmp_path / 'loose'))
    with pytest.raises(ValueError, match='images without a label cannot be scored'):
        runner_of(tmp_path / 'loose', tmp_path, unlabeled=True).test()


def test_embeddings_stay_where_no_query_has_a_positive(pictures, tmp_path):
    for name in sorted(os.listdir(pictures)):
        file = min(os.listdir(f'{pictures}/{name}'))
        os.makedirs(tmp_path / 'single' / name)
        shutil.copy(f'{pictures}/{name}/{file}', tmp_path / 'single' / name)
    runner = runner_of(tmp_path / 'single', tmp_path)
    write_embeddings(runner, str(tmp_path / 'e.npz'), score=True)
    with pytest.raises(ValueError, match='with no gallery row of their label but themselves'):
        runner.test()
    saved = read_embeddings(str(tmp_path / 'e.npz'))
    assert saved.facts.labels.tolist() == sorted(os.listdir(pictures)) and saved.model_hash


def test_a_run_without_the_metric_is_refused(pictures, tmp_path):
    runner = runner_of(pictures, tmp_path)
    runner.test_evaluator.metrics = []
    with pytest.raises(ValueError, match='test_evaluator has none'):
        write_embeddings(runner, str(tmp_path / 'e.npz'), score=True)
