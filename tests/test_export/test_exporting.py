"""Exported files embed as the model does, in engines without torch, and say how pictures are prepared."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import onnx
import pytest
import torch
from mmengine.config import Config
from mmpretrain.models.backbones.mixmim import MixMIMBlock
from mmpretrain.models.utils.attention import ShiftWindowMSA

from mmdml.apis import ImageEmbeddingInferencer, get_model
from mmdml.apis.gallery_update import require_same_model
from mmdml.export import ExportedEmbedder, export_embedder, preparation_of
from mmdml.export.runtimes import open_runtime
from mmdml.index import LocalStore

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='mmpretrain.ResizeEdge', scale=40, backend='pillow', interpolation='bilinear'),
    dict(type='CenterCrop', crop_size=32),
    dict(type='mmpretrain.PackInputs'),
]


def divided_model(flip_test=True):
    """A model on colors whose embedding is divided in three unequal slices, which predicts with mirror images."""
    torch.manual_seed(0)
    model = get_model(
        Config(
            dict(
                default_scope='mmdml',
                model=dict(
                    type='ImageEmbedder',
                    data_preprocessor=dict(mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 40.0], to_rgb=True),
                    backbone=dict(type='Conv4', in_channels=3, channels=8),
                    pooling=dict(type='GeneralizedMeanPooling'),
                    neck=dict(type='DivideAndConquerEmbedding', in_channels=8, embed_dim=10, num_learners=3),
                    flip_test=flip_test,
                ),
            )
        )
    )
    model.neck.divide(3)
    return model


@pytest.fixture(scope='module')
def embed():
    return ImageEmbeddingInferencer(divided_model(), pipeline=PIPELINE, device='cpu', progress=False)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp('photos'), np.random.default_rng(0)
    for number in range(5):
        coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f'{number}.png'), cv2.resize(coarse, (50 + 9 * number, 71 - 7 * number)))
    return folder


def export(embed, path):
    return export_embedder(
        embed.embedder.model, preparation_of(embed.embedder.transforms), path, 'mine', embed.model_hash, (1,)
    )


@pytest.fixture(scope='module')
def onnx_file(embed, tmp_path_factory):
    path = tmp_path_factory.mktemp('exported') / 'model.onnx'
    report = export(embed, path)
    assert report.lowest_cosine > 0.9999 and report.size == path.stat().st_size
    return path


def rows_of(path, photos):
    embedder = ExportedEmbedder(path)
    images = [embedder.prepare(embedder.read(str(each))) for each in sorted(photos.iterdir())]
    return embedder, np.concatenate([embedder.embed(np.stack(images[:3])), embedder.embed(np.stack(images[3:]))])


def assert_equal_rows(rows, wanted):
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    assert (rows * wanted).sum(axis=1).min() > 0.9999
    # The rows of other pictures differ: the cosines above say something.
    assert (np.tril(rows @ wanted.T, -1) < 0.9999).all()


def test_files_of_pictures_get_the_embeddings_of_the_model(embed, onnx_file, photos):
    embedder, rows = rows_of(onnx_file, photos)
    assert_equal_rows(rows, embed(photos).embeddings)
    assert (embedder.model_hash, embedder.dimensions, embedder.name) == (embed.model_hash, 10, 'mine')
    shape = onnx.load(onnx_file).graph.input[0].type.tensor_type.shape.dim
    assert [each.dim_param or each.dim_value for each in shape] == ['batch', 32, 32, 3]


def test_pictures_are_embedded_and_searched_in_processes_without_torch(embed, onnx_file, photos, tmp_path):
    code = f"""
import sys
sys.modules.update(torch=None, torchvision=None, mmengine=None, mmcv=None, mmpretrain=None)  # an import is an error
from mmdml.apis import ImageEmbeddingInferencer, ImageRetrievalInferencer, update_gallery
from mmdml.cli.main import main
from mmdml.index import LocalStore
embed = ImageEmbeddingInferencer({str(onnx_file)!r}, progress=False)
with LocalStore.open('store', embed.dimensions, embed.model_hash, write=True) as store:
    assert update_gallery(store, embed, {str(photos)!r}).added == 5
match = ImageRetrievalInferencer(embed, 'store')({str(photos / '3.png')!r}, k=1).matches[0][0]
assert match.path.endswith('3.png') and match.score > 0.9999
main(['embed', {str(photos)!r}, '--model', {str(onnx_file)!r}, '--out', 'rows'])
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == '5 embeddings in 1 files\n', done.stderr
    rows = np.load(tmp_path / 'rows' / '00000.npy')
    assert_equal_rows(rows, embed(photos).embeddings)
    # A store of the model is searched with the file, and the other way round.
    with LocalStore.open(tmp_path / 'store') as store:
        require_same_model(store, embed)


def test_openvino_files_embed_alike(embed, photos, tmp_path):
    pytest.importorskip('openvino')
    report = export(embed, tmp_path / 'model.xml')
    assert report.lowest_cosine > 0.9999 and {each.name for each in tmp_path.iterdir()} == {'model.xml', 'model.bin'}
    assert_equal_rows(rows_of(tmp_path / 'model.xml', photos)[1], embed(photos).embeddings)


def test_several_threads_embed_by_one_openvino_file(embed, photos, tmp_path):
    pytest.importorskip('openvino')
    export(embed, tmp_path / 'model.xml')
    runtime = open_runtime(tmp_path / 'model.xml')
    images = np.random.default_rng(0).integers(0, 256, (8, 2, 32, 32, 3), dtype=np.uint8)
    expected = [runtime(each) for each in images]
    with ThreadPoolExecutor(4) as pool:
        for found, right in zip(pool.map(runtime, [*images] * 20), expected * 20, strict=True):
            np.testing.assert_allclose(found, right, atol=1e-6)


def test_a_program_of_torch_export_runs_without_mmdml(embed, photos, tmp_path, onnx_file):
    export(embed, tmp_path / 'model.pt2')
    embedder = ExportedEmbedder(onnx_file)
    images = np.stack([embedder.prepare(embedder.read(str(each))) for each in sorted(photos.iterdir())])
    np.save(tmp_path / 'images.npy', images)
    code = (
        'import numpy, sys, torch; program = torch.export.load("model.pt2").module()\n'
        'numpy.save("rows.npy", program(torch.from_numpy(numpy.load("images.npy"))).detach().numpy())\n'
        'assert "mmdml" not in sys.modules'
    )
    subprocess.run([sys.executable, '-c', code], check=True, cwd=tmp_path)
    assert_equal_rows(np.load(tmp_path / 'rows.npy'), embed(photos).embeddings)


def test_a_file_that_embeds_otherwise_is_not_written(embed, tmp_path):
    model = divided_model(flip_test=False)
    whole = model.neck.unit

    def unit(raw, learner=None):
        # Tracing sees another branch than a run.
        return whole(raw.flip(1) if torch.compiler.is_exporting() else raw, learner)

    model.neck.unit = unit
    with pytest.raises(ValueError, match='was not written: its embeddings differ .* must be above 0.9999'):
        export_embedder(model, preparation_of(embed.embedder.transforms), tmp_path / 'model.pt2', 'mine', 'hash')
    assert list(tmp_path.iterdir()) == []


def test_a_file_whose_embeddings_are_no_numbers_is_not_written(embed, tmp_path):
    model = divided_model(flip_test=False)
    whole = model.neck.unit

    def unit(raw, learner=None):
        return whole(raw, learner) * (float('nan') if torch.compiler.is_exporting() else 1.0)

    model.neck.unit = unit
    with pytest.raises(ValueError, match='was not written: its embeddings differ .* lowest cosine nan'):
        export_embedder(model, preparation_of(embed.embedder.transforms), tmp_path / 'model.pt2', 'mine', 'hash')
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_be_used_are_named(embed, onnx_file, tmp_path):
    (tmp_path / 'cut.onnx').write_bytes(onnx_file.read_bytes()[:4000])
    with pytest.raises(ValueError, match='cut.onnx cannot be run as an ONNX model'):
        ExportedEmbedder(tmp_path / 'cut.onnx')
    foreign = onnx.load(onnx_file)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / 'foreign.onnx')
    with pytest.raises(ValueError, match='does not say how pictures are prepared .* mmdml export'):
        ExportedEmbedder(tmp_path / 'foreign.onnx')
    with pytest.raises(FileNotFoundError, match='there is no file nowhere.onnx'):
        ExportedEmbedder('nowhere.onnx')
    with pytest.raises(ValueError, match="device='tpu': onnxruntime offers"):
        ExportedEmbedder(onnx_file, device='tpu')
    with pytest.raises(ValueError, match=r'must end in one of \.onnx, \.pt2, \.xml'):
        export(embed, tmp_path / 'model.trt')


@pytest.mark.parametrize(
    'facts, fault',
    [
        ('[1', "the metadata 'mmdml' is damaged, export the model again: Expecting"),
        ('[1]', r"the metadata 'mmdml' must be a mapping, got \[1\]"),
        ('{"version": 1, "name": "a"}', "the metadata 'mmdml' must have 'model_hash' as str, got None"),
        ('{"version": 1, "name": "a", "model_hash": "b", "dimensions": 2, "preparation": [1]}', r'got \[1\]: export'),
        (
            '{"version": 1, "name": "a", "model_hash": "b", "dimensions": 2, "preparation": {"size": 1}}',
            "has a 'preparation' that cannot be built: .*'size'",
        ),
    ],
)
def test_facts_that_cannot_be_read_are_named(onnx_file, tmp_path, facts, fault):
    model = onnx.load(onnx_file)
    del model.metadata_props[:]
    model.metadata_props.add(key='mmdml', value=facts)
    onnx.save(model, tmp_path / 'bad.onnx')
    with pytest.raises(ValueError, match=f'{tmp_path}/bad.onnx.*{fault}'):
        ExportedEmbedder(tmp_path / 'bad.onnx')


def test_a_missing_engine_is_named_with_its_extra(onnx_file, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(ImportError, match=r"needs onnxruntime: pip install 'mmdml\[onnx\]'"):
        ExportedEmbedder(onnx_file)


def test_a_swin_is_exported_for_batches_of_any_size(tmp_path, photos):
    torch.manual_seed(0)
    arch = dict(embed_dims=8, depths=[2, 2], num_heads=[1, 2])
    backbone = dict(type='mmpretrain.SwinTransformer', arch=arch, img_size=32, window_size=4, out_indices=(1,))
    model = dict(type='ImageEmbedder', data_preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3), backbone=backbone)
    model['neck'] = dict(type='LinearEmbedding', in_channels=16, embed_dim=6)
    swin = get_model(Config(dict(default_scope='mmdml', model=model)))
    embed = ImageEmbeddingInferencer(swin, pipeline=PIPELINE, device='cpu', progress=False)
    assert export(embed, tmp_path / 'swin.onnx').lowest_cosine > 0.9999
    assert_equal_rows(rows_of(tmp_path / 'swin.onnx', photos)[1], embed(photos).embeddings)


def test_windows_of_swin_are_put_together_as_they_were_cut():
    maps = torch.arange(3 * 8 * 12 * 2.0).reshape(3, 8, 12, 2)
    for attention in (ShiftWindowMSA, MixMIMBlock):
        windows = attention.window_partition(maps, 4)
        assert windows.shape == (18, 4, 4, 2) and torch.equal(attention.window_reverse(windows, 8, 12, 4), maps)
