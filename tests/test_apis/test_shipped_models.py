"""The embedder that comes with the package: there offline, whole, small, licensed, and as good as its card says."""

import subprocess
import sys

import numpy as np
import pytest
from mmengine.registry import DefaultScope

from mmdml.apis import ImageEmbeddingInferencer, get_model
from mmdml.apis.demo_gallery import DEMO_GALLERY
from mmdml.apis.model_facts import model_facts
from mmdml.apis.model_folder import ModelFolder
from mmdml.apis.model_index import shipped_models
from mmdml.apis.model_names import find_model
from mmdml.evaluation.functional import retrieval_scores

NAME = 'iaa_ms_mobilenet-v2_grocery'
# Two pictures of each class of the demo gallery, noted down when the weights were published: each finds the other one
# among 81, or not.
RECORDED = dict(pictures=82, first=[-0.06847, -0.0087, 0.05172, 0.041], recall=37.80)


@pytest.fixture(scope='module')
def embed():
    return ImageEmbeddingInferencer(device='cpu', progress=False)


def test_each_is_whole_named_by_its_weights_and_keeps_its_licenses():
    assert list(shipped_models()) == [NAME]
    for path in shipped_models().values():
        folder = ModelFolder.read(path)
        assert path.name.endswith(f'-{folder.weights_hash[:8]}')
        assert sum(file.stat().st_size for file in path.rglob('*')) < 6e6
        for name in ('mobilenetv2-imagenet-weights', 'grocery-store-dataset'):
            assert 'MIT License' in (path / 'licenses' / f'{name}.txt').read_text()


def test_the_card_states_data_command_commit_figures_limits_and_licenses():
    (path,) = shipped_models().values()
    card, (test,) = (path / 'README.md').read_text(), ModelFolder.read(path).training['tests']
    for text in ('2,979', 'tools/train.py configs/iaa', 'commit: ', 'precision: fp16', '## Limits', '## Licenses'):
        assert text in card
    assert all(f'| {name} | {value:.2f} |' in card for name, value in test['scores'].items())
    assert '2,442 pictures of 41 classes' in test['scored_on']


def test_the_default_embeds_photographs_as_recorded(embed):
    (path,) = shipped_models().values()
    assert embed.model_hash == ModelFolder.read(path).model_hash and embed.dimensions == 128
    folders = sorted(folder for folder in DEMO_GALLERY.iterdir() if folder.is_dir())
    files = [str(file) for folder in folders for file in sorted(folder.glob('*.jpg'))[:2]]
    found = embed(files)
    assert len(found.names) == len(files) == RECORDED['pictures'] and found.unreadable == []
    np.testing.assert_allclose(found.embeddings[0, :4], RECORDED['first'], atol=2e-3)
    labels = [file.split('/')[-2] for file in files]
    scores = retrieval_scores(found.embeddings, np.unique(labels, return_inverse=True)[1], recall_at=(1,))
    assert 100 * scores['Recall@1'] == pytest.approx(RECORDED['recall'], abs=1.5)


def test_the_name_of_its_config_has_its_weights():
    # With the head of the config, to train on; the same embeddings.
    model = get_model(NAME, pretrained=True)
    assert model.head is not None and ImageEmbeddingInferencer(NAME).model_hash == find_hash()


def find_hash():
    return ModelFolder.read(find_model('default').folder).model_hash


def test_the_default_model_is_built_without_network():
    code = (
        'import socket\n'
        'def refuse(*a, **k): raise OSError("network")\n'
        'socket.socket.connect = socket.create_connection = refuse\n'
        'from mmdml.apis import get_model\nprint(get_model().neck.embed_dim)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == '128', done.stderr


def test_a_process_that_ran_something_of_another_scope_builds_the_same_model(embed):
    with DefaultScope.overwrite_default_scope('mmengine'):
        assert ImageEmbeddingInferencer('default').model_hash == embed.model_hash
        assert model_facts('default')['dimensions'] == 128
