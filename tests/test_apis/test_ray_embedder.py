"""What a worker of Ray Data does with a batch, called alone and by a local Ray."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmdml.apis import ImageEmbeddingInferencer, RayEmbedder, get_model

MODEL = dict(model='ms_conv4_omniglot:untrained', device='cpu', workers=1)


@pytest.fixture(scope='module')
def files(pictures):
    return [str(path) for path in sorted(Path(pictures).rglob('*.png'))[:5]]


def test_paths_and_contents_get_the_embeddings_of_the_inferencer(files, tmp_path, monkeypatch):
    bad = tmp_path / 'bad.png'
    bad.write_bytes(b'no picture')
    worker = RayEmbedder(**MODEL)
    names = [files[0], str(bad), *files[1:]]
    found = worker(dict(path=np.array(names), label=np.arange(6)))
    expected = worker.embed(files).embeddings
    good = [0, 2, 3, 4, 5]
    assert np.array_equal(found['embedding'][good], expected) and not found['embedding'][1].any()
    assert [bool(error) for error in found['error']] == [at == 1 for at in range(6)]
    assert found['label'].tolist() == list(range(6))
    contents = np.array([Path(name).read_bytes() for name in names], dtype=object)
    worker.column = 'bytes'
    found = worker(dict(bytes=contents))
    np.testing.assert_allclose(found['embedding'][good], expected, atol=1e-6)
    assert found['error'][1] and not found['error'][0]
    # A picture that Pillow takes for a decompression bomb leaves the others alone.
    monkeypatch.setattr('PIL.Image.MAX_IMAGE_PIXELS', 790)
    large = cv2.imencode('.png', np.zeros((40, 40), np.uint8))[1].tobytes()
    found = worker(dict(bytes=np.array([large, contents[0]], dtype=object)))
    assert 'decompression bomb' in found['error'][0] and found['error'][1] == ''
    # What is no picture at all, such as a null of parquet, has its reason, too.
    odd = np.array([None, contents[0], bytearray(contents[0]), 3, str(tmp_path)], dtype=object)
    found = worker(dict(bytes=odd))
    np.testing.assert_allclose(found['embedding'][[1, 2]], np.repeat(expected[:1], 2, 0), atol=1e-6)
    reasons = ['it is neither a path nor a picture, but NoneType', '', '']
    assert found['error'].tolist() == [*reasons, 'it is neither a path nor a picture, but int', 'it is a folder']
    with pytest.raises(KeyError, match="reads the column 'bytes', but the rows have"):
        worker(dict(path=np.array(names)))


@pytest.mark.slow
def test_a_local_ray_embeds_all_rows(files, tmp_path):
    ray = pytest.importorskip('ray', reason="needs the extra 'ray'")
    weights = tmp_path / 'weights.pth'
    torch.save({'state_dict': get_model('ms_conv4_omniglot').state_dict()}, weights)
    model = dict(model='ms_conv4_omniglot', pretrained=str(weights), device='cpu', workers=1)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        rows = ray.data.from_items([dict(path=path) for path in files])
        rows = rows.map_batches(RayEmbedder, fn_constructor_kwargs=model, batch_size=2, concurrency=1)
        found = {row['path']: row['embedding'] for row in rows.take_all()}
    finally:
        ray.shutdown()
    expected = ImageEmbeddingInferencer(**model, progress=False)(files).embeddings
    np.testing.assert_allclose([found[path] for path in files], expected, atol=1e-6)
