"""A model where a command takes pictures or a store is refused before any work, with the command to type."""

import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from mmengine.config import Config

from mmdml.apis.model_index import DEFAULT_IS, shipped_models
from mmdml.cli.main import main

MODEL = str(shipped_models()['ms_conv4_omniglot'])


@pytest.mark.parametrize(
    'typed, to_type',
    [
        (f'embed {MODEL} --out out', f'embed PICTURES --model {MODEL} --out out'),
        ('embed ms_conv4_omniglot --out out', 'embed PICTURES --model ms_conv4_omniglot --out out'),
        (f'index {MODEL} --store new.store', f'index PICTURES --model {MODEL} --store new.store'),
        (f'index photos --store {MODEL}', f'index PICTURES --store {MODEL.rpartition("/")[2]}.store --model {MODEL}'),
        (f'search {MODEL} --store my.store', f'search PICTURES --model {MODEL} --store my.store'),
        (
            f'search query.jpg --store {MODEL}',
            f'index PICTURES --store {MODEL.rpartition("/")[2]}.store --model {MODEL}',
        ),
        (f'serve {MODEL}', f'index PICTURES --store {MODEL.rpartition("/")[2]}.store --model {MODEL}'),
        (f'duplicates {MODEL}', f'duplicates PICTURES --model {MODEL}'),
        (f'test {MODEL}', f'test PICTURES --model {MODEL}'),
        (f'test {MODEL} --model photos', f'test PICTURES --model {MODEL}'),
        (f'train {MODEL}', f'train PICTURES --model {MODEL}'),
        ('test model.onnx', 'test PICTURES --model model.onnx'),
    ],
)
def test_the_error_has_the_command_to_type(typed, to_type, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'model.onnx').touch()
    done = CliRunner().invoke(main, typed.split(), prog_name='mmdml')
    assert done.exit_code == 1
    assert done.stderr.count('\n') == 1 and done.stderr.endswith(f': mmdml {to_type}\n'), done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ['model.onnx']


def test_a_folder_of_pictures_may_have_the_name_of_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT_IS).mkdir()
    done = CliRunner().invoke(main, ['embed', DEFAULT_IS, '--out', 'out'], prog_name='mmdml')
    assert done.stderr.startswith('error: there is no picture in ')


@pytest.mark.parametrize(
    'typed',
    [
        'embed photos --model features.py:a.pth --out out',
        'index photos --model features.py:a.pth --store new.store',
        'export features.py:a.pth --out x.onnx',
        'publish features.py:a.pth',
        'train photos --model features.py:a.pth',
    ],
)
def test_a_model_of_features_is_refused_with_the_way_to_one_of_pictures(typed, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pictures, 'photos')
    model = dict(
        type='ImageEmbedder',
        data_preprocessor=dict(type='FeaturePreprocessor'),
        backbone=dict(type='Identity'),
        neck=dict(type='ResidualEmbedding', in_channels=8),
    )
    dataset = dict(type='FeatureFile', ann_file='f.npz', pipeline=[])
    Config(dict(model=model, train_dataloader=dict(dataset=dataset), test_dataloader=dict(dataset=dataset))).dump(
        'features.py'
    )
    torch.save(dict(state_dict={}), 'a.pth')
    done = CliRunner().invoke(main, typed.split(), prog_name='mmdml')
    assert done.exit_code == 1 and done.stderr.count('\n') == 1, done.stderr
    assert 'takes features of a frozen backbone, not pictures: join it' in done.stderr
    assert 'tools/model_converters/join_backbone.py' in done.stderr


def test_a_dataset_of_features_is_not_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez('f.npz', embeddings=np.eye(4, dtype=np.float32), labels=[0, 0, 1, 1])
    dataset = dict(type='FeatureFile', ann_file='f.npz', pipeline=[])
    Config(dict(train_dataloader=dict(dataset=dataset))).dump('features.py')
    done = CliRunner().invoke(main, ['browse', 'features.py', '--out', 'out'], prog_name='mmdml')
    assert done.exit_code == 1 and done.stderr.startswith('error: the dataset holds features, not pictures'), (
        done.stderr
    )
