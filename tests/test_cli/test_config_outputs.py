"""A run writes over none of the files that it reads."""

import os

import numpy as np
import pytest
from click.testing import CliRunner
from mmengine.config import Config

from mmdml.cli.config_outputs import check_outputs
from mmdml.cli.main import main

MODEL = (
    "model = dict(type='ImageEmbedder', data_preprocessor=dict(type='FeaturePreprocessor'), "
    "backbone=dict(type='Identity'), neck=dict(type='IdentityEmbedding', in_channels=2))\n"
)


@pytest.fixture
def features(tmp_path):
    """A file of features, and links to it and to its folder."""
    path = tmp_path / 'data/test.npz'
    path.parent.mkdir()
    np.savez(path, embeddings=np.eye(4, 2) + 1, labels=[0, 0, 1, 1])
    (tmp_path / 'link.npz').symlink_to(path)
    (tmp_path / 'folder').symlink_to(path.parent)
    return path


@pytest.mark.parametrize('out', ['data/test.npz', 'link.npz', 'folder/test.npz', 'data/../data/test.npz'])
def test_embeddings_are_not_written_over_the_features_of_the_test(features, tmp_path, out):
    before = features.read_bytes()
    config = tmp_path / 'test.py'
    dataset = f"dict(type='FeatureFile', data_root={str(features.parent)!r}, ann_file='test.npz', test_mode=True)"
    config.write_text(
        "_base_ = ['mmdml::_base_/default_runtime.py']\n"
        + MODEL
        + f"test_dataloader = dict(batch_size=4, num_workers=0, collate_fn=dict(type='mmdml.collate_features'), "
        f"sampler=dict(type='DefaultSampler', shuffle=False), dataset={dataset})\n"
        "test_evaluator = dict(type='RetrievalMetric')\ntest_cfg = dict()\n"
        f'work_dir = {str(tmp_path / "run")!r}\n'
    )
    done = CliRunner().invoke(main, ['test', str(config), '--out', str(tmp_path / out)])
    assert done.exit_code == 1, done.output
    named = os.path.abspath(tmp_path / out)
    assert done.stderr == f'error: --out: the output {named} is a file that is read; name another one\n'
    assert features.read_bytes() == before and not (tmp_path / 'run').exists()


def config_of(features, evaluator, **more):
    dataset = dict(type='FeatureFile', ann_file=str(features), label_file=str(features.with_name('labels.csv')))
    inner = dict(type='RetrievalConcatDataset', datasets=[dict(type='ImageFolder', data_root='x'), dataset])
    return Config(dict(test_dataloader=dict(dataset=inner), test_evaluator=evaluator, **more))


def test_outputs_of_metrics_are_no_inputs_and_none_is_there_twice(features, tmp_path):
    labels = features.with_name('labels.csv')
    labels.write_text('labels')
    metric = dict(type='RetrievalMetric')
    for option, path in (('out', features), ('values_out', labels)):
        with pytest.raises(ValueError, match=rf'test_evaluator\.1\.{option}: the output \S+ is a file that is read'):
            check_outputs(config_of(features, [metric, dict(metric, **{option: str(path)})]))
    (tmp_path / 'fit.npz').write_bytes(b'')
    whitened = dict(metric, whitening=dict(fit=str(tmp_path / 'fit.npz')))
    for more in (dict(), dict(load_from=str(tmp_path / 'fit.npz'))):
        evaluator = metric if more else whitened
        with pytest.raises(ValueError, match=r'--out: the output \S+fit\.npz is a file that is read'):
            check_outputs(config_of(features, evaluator, **more), str(tmp_path / 'fit.npz'))
    both = [dict(metric, values_out=str(tmp_path / name)) for name in ('a.csv', 'folder/../a.csv')]
    (tmp_path / 'twice').mkdir()
    both[1]['values_out'] = str(tmp_path / 'twice/../a.csv')
    with pytest.raises(ValueError, match=r'test_evaluator\.0\.values_out and test_evaluator\.1\.values_out are one'):
        check_outputs(config_of(features, both))
    one = config_of(features, [metric, dict(metric, out=str(tmp_path / 'new.npz'))])
    with pytest.raises(ValueError, match=r'--out and test_evaluator\.1\.out are one file'):
        check_outputs(one, str(tmp_path / 'new.npz'))
    check_outputs(one, str(tmp_path / 'other.npz'))


def test_a_folder_of_shards_is_not_written_into(features, tmp_path):
    np.save(features.with_name('00000.npy'), np.eye(2))
    with pytest.raises(ValueError, match='is a file that is read'):
        (tmp_path / 'x.npz').symlink_to(features.with_name('00000.npy'))
        check_outputs(config_of(features.parent, []), str(tmp_path / 'x.npz'))
