"""A server in this process over a tiny gallery."""

import cv2
import numpy as np
import pytest
from serving import HOSTILE_LABEL, serving

from mmdml.apis import ImageEmbeddingInferencer, get_model, update_gallery
from mmdml.index import LocalStore
from mmdml.web import Gallery, create_app
from mmdml.web.decoder import Decoder
from mmdml.web.uploads import UploadLimits


@pytest.fixture(scope='session')
def color_pictures(tmp_path_factory):
    """A folder of 6 classes of 4 pictures of 96x72, each class a color; one has a name and a class with a script."""
    root = tmp_path_factory.mktemp('color')
    random = np.random.default_rng(0)
    colors = [(200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60), (200, 60, 200), (60, 200, 200)]
    for number, color in enumerate(colors):
        folder = root / f'class {number + 5}'
        folder.mkdir()
        for index in range(4):
            image = np.clip(np.array(color) + random.integers(-40, 40, (72, 96, 3)), 0, 255).astype(np.uint8)
            cv2.circle(image, (20 + 15 * index, 36), 14, (255, 255, 255), -1)
            cv2.imwrite(str(folder / f'{index}.png'), image)
    (root / 'class 10' / '3.png').rename(root / 'class 10' / '<img src=x onerror=document.title="hacked">.png')
    return root


@pytest.fixture(scope='session')
def embed():
    """A small convolutional model with random weights."""
    import torch

    torch.manual_seed(0)
    sizes = dict(backbone=dict(channels=8, in_channels=3), neck=dict(in_channels=8, embed_dim=6))
    model = get_model('ms_conv4_omniglot', False, data_preprocessor=dict(mean=[127.0] * 3, std=[64.0] * 3), **sizes)
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='mmpretrain.Resize', scale=(28, 28)),
        dict(type='mmpretrain.PackInputs'),
    ]
    return ImageEmbeddingInferencer(model, pipeline=pipeline, device='cpu', progress=False, workers=1)


@pytest.fixture(scope='session')
def store_folder(embed, color_pictures, tmp_path_factory):
    """Folder of a store of all pictures; the last class has a label with a script."""
    folder = tmp_path_factory.mktemp('web') / 'toys'

    def describe(path):
        name, file = path.split('/')
        return HOSTILE_LABEL if name == 'class 10' else name, {'number': file[0]}

    with LocalStore.open(folder, embed.dimensions, embed.model_hash, write=True) as store:
        update_gallery(store, embed, color_pictures, describe)
    return folder


@pytest.fixture(scope='module')
def server(embed, store_folder, tmp_path_factory):
    """The address of a server with two galleries, ``toys`` and ``toys-2``."""
    galleries = [Gallery(name, LocalStore.open(store_folder), embed, f'/{name}', 'tiny') for name in ('toys', 'toys 2')]
    marks = tmp_path_factory.mktemp('marks') / 'marks.db'
    app = create_app(galleries, marks, limits=UploadLimits(megabytes=2, seconds=2), decoder=Decoder(2, seconds=5))
    with serving(app) as address:
        yield address
