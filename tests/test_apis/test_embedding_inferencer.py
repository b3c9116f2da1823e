"""Pictures to vectors: equal to a test run, whatever the kind of input, with unreadable pictures kept apart."""

import io
import os
import shutil
import uuid

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from tiny import tiny_config

from mmdml.apis import ImageEmbeddingInferencer, get_model
from mmdml.cli.embedding_output import write_embeddings
from mmdml.engine.runner import build_runner


@pytest.fixture(scope='module')
def trained(pictures, tmp_path_factory):
    """Config and checkpoint of a tiny model, and what a test run writes for all pictures in batches of 5."""
    folder = tmp_path_factory.mktemp('trained')
    cfg = tiny_config(pictures, folder, experiment_name=uuid.uuid4().hex, test_dataloader__batch_size=5)
    torch.manual_seed(0)
    torch.save({'state_dict': get_model(cfg.copy()).state_dict()}, folder / 'model.pth')
    cfg.dump(str(folder / 'tiny.py'))
    cfg.load_from = str(folder / 'model.pth')
    runner = build_runner(cfg)
    write_embeddings(runner, str(folder / 'embeddings.npz'), score=False)
    runner.test()
    return folder / 'tiny.py', folder / 'model.pth', np.load(folder / 'embeddings.npz')


@pytest.fixture(scope='module')
def embed(trained):
    return ImageEmbeddingInferencer(trained[0], trained[1], device='cpu', batch_size=5, workers=2, progress=False)


@pytest.mark.parametrize('workers', [1, 3])
def test_a_folder_is_embedded_bit_by_bit_as_a_test_run_embeds_it(trained, pictures, workers):
    embed = ImageEmbeddingInferencer(
        trained[0], trained[1], device='cpu', batch_size=5, workers=workers, progress=False
    )
    found = embed(pictures)
    assert found.names == trained[2]['paths'].tolist() and found.unreadable == []
    assert found.embeddings.dtype == np.float32
    np.testing.assert_array_equal(found.embeddings, trained[2]['embeddings'])
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, rtol=1e-6)
    assert len(np.unique(found.embeddings, axis=0)) == len(found.names)


def test_paths_arrays_pil_images_and_generators_give_the_rows_of_the_files(embed, pictures):
    whole = embed(pictures)
    files = whole.names
    inputs = {
        'paths': files,
        'arrays': [cv2.imread(file, cv2.IMREAD_GRAYSCALE) for file in files],
        'color arrays': [cv2.imread(file) for file in files],
        'PIL': [Image.open(file) for file in files],
        'generator': (Image.fromarray(cv2.imread(file, cv2.IMREAD_GRAYSCALE)) for file in files),
    }
    for kind, given in inputs.items():
        found = embed(given)
        np.testing.assert_array_equal(found.embeddings, whole.embeddings, err_msg=kind)
        assert found.names == (files if kind in ('paths', 'PIL') else [f'image {i}' for i in range(len(files))])
    one = embed(files[3])
    assert one.names == [files[3]]
    np.testing.assert_allclose(one.embeddings, whole.embeddings[3:4], atol=1e-6)


def test_a_color_model_gets_the_colors_of_a_file_from_arrays_and_pil_images_alike(tmp_path):
    file = str(tmp_path / 'red.png')
    random = np.random.default_rng(0)
    cv2.imwrite(file, random.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    sizes = dict(backbone=dict(channels=8, in_channels=3), neck=dict(in_channels=8, embed_dim=6))
    model = get_model('ms_conv4_omniglot', False, **sizes)
    embed = ImageEmbeddingInferencer(model, pipeline=[dict(type='mmpretrain.PackInputs')], progress=False)
    expected = embed(file).embeddings
    for image in (cv2.imread(file), Image.open(file)):
        np.testing.assert_array_equal(embed(image).embeddings, expected)
    # Turned by its EXIF data, as a telephone stores it: read from the file and from PIL, it is the same.
    turned = str(tmp_path / 'turned.jpg')
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(file).save(turned, exif=exif)
    plain = cv2.imread(turned, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    np.testing.assert_allclose(embed(turned).embeddings, embed(Image.open(turned)).embeddings, atol=1e-3)
    assert np.abs(embed(turned).embeddings - embed(plain).embeddings).max() > 1e-3


def test_unreadable_pictures_are_kept_apart_with_their_reasons(embed, pictures, tmp_path):
    folder = tmp_path / 'mixed'
    shutil.copytree(pictures, folder)
    (folder / 'class_0/empty.png').write_bytes(b'')
    (folder / 'class_1/page.jpg').write_text('<html>')
    found = embed(folder)
    assert [os.path.relpath(each.name, folder) for each in found.unreadable] == [
        'class_0/empty.png',
        'class_1/page.jpg',
    ]
    assert 'no picture that can be decoded' in found.unreadable[1].reason and '\n' not in found.unreadable[1].reason
    np.testing.assert_array_equal(found.embeddings, embed(pictures).embeddings)
    bad = embed([np.zeros((4, 4)), np.zeros((0, 4), np.uint8), str(tmp_path / 'missing.png')])
    assert bad.embeddings.shape == (0, 6) and bad.names == []
    assert 'must be uint8 of shape (H, W, 3)' in bad.unreadable[0].reason
    assert 'FileNotFoundError' in bad.unreadable[2].reason


def test_a_stream_reads_no_more_than_two_batches_ahead(embed, pictures):
    file = embed(pictures).names[0]
    taken = []

    def endless():
        while True:
            taken.append(file)
            yield file

    stream = embed.stream(endless(), batch_size=2)
    assert next(stream).names == [file, file]
    assert len(taken) <= 2 + 2 * 2
    stream.close()


def test_the_hash_changes_with_weights_and_preprocessing_and_not_with_the_head(trained, embed):
    cfg = Config.fromfile(trained[0])
    assert len(embed.model_hash) == 64 and embed.model_hash == embed.model_hash

    def hashed(**changes):
        changed = cfg.copy()
        changed.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
        return ImageEmbeddingInferencer(changed, trained[1], device='cpu', progress=False).model_hash

    assert hashed() == embed.model_hash
    assert hashed(model__head__loss=dict(type='ContrastiveLoss', _delete_=True)) == embed.model_hash
    resize = dict(type='mmpretrain.ResizeEdge', scale=32)
    others = {
        hashed(model__flip_test=True),
        hashed(model__data_preprocessor__std=[127.5]),
        hashed(test_dataloader__dataset__pipeline=[resize, *cfg.test_dataloader.dataset.pipeline]),
        ImageEmbeddingInferencer(cfg, pretrained=False, device='cpu', progress=False).model_hash,
    }
    assert len(others) == 4 and embed.model_hash not in others


def test_the_progress_line_counts_readable_and_unreadable_pictures_and_knows_the_total(trained, pictures):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown = Terminal()
    embed = ImageEmbeddingInferencer(trained[0], trained[1], device='cpu')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('sys.stderr', shown)
        embed([pictures, np.zeros(3)])
    assert '100%  37 of 37' in shown.getvalue()


def test_mistakes_are_named_before_anything_is_embedded(trained, embed, pictures):
    with pytest.raises(ValueError, match='pass pipeline='):
        ImageEmbeddingInferencer(get_model('ms_conv4_omniglot', False))
    with pytest.raises(ValueError, match='no weights were published'):
        ImageEmbeddingInferencer('contrastive_conv4_omniglot')
    with pytest.raises(ValueError, match='batch_size=0 must be 1 or more'):
        ImageEmbeddingInferencer(trained[0], trained[1], batch_size=0)
    with pytest.raises(TypeError, match='input 1 is of type float'):
        embed([embed(pictures).names[0], 0.5])
    with pytest.raises(TypeError, match='inputs is of type int'):
        embed(5)
    with pytest.raises(ValueError, match='inputs of several sizes'):
        embed([np.zeros((28, 28), np.uint8), np.zeros((30, 28), np.uint8)])
    with pytest.raises(FileNotFoundError, match='no picture in'):
        embed(trained[0].parent)
