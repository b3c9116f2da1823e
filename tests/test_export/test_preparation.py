"""Pictures are prepared for an exported model exactly as the test pipeline prepares them."""

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope

from mmdml.export import Preparation, preparation_of
from mmdml.registry import TRANSFORMS

LOAD = dict(type='LoadImageFromFile')
PACK = dict(type='mmpretrain.PackInputs')
CROP = dict(type='CenterCrop', crop_size=48)
SQUARE = dict(type='mmpretrain.Resize', scale=(48, 48))


def built(*transforms):
    init_default_scope('mmdml')
    return [TRANSFORMS.build(each) for each in transforms]


@pytest.mark.parametrize(
    'resize',
    [
        dict(type='mmpretrain.ResizeEdge', scale=53, backend='pillow', interpolation='bilinear'),
        dict(type='mmpretrain.ResizeEdge', scale=61, edge='long', interpolation='area'),
        dict(type='mmpretrain.ResizeEdge', scale=64, edge='width', backend='pillow', interpolation='bicubic'),
        dict(type='Resize', scale=(64, 50), backend='pillow', interpolation='lanczos'),
        dict(type='Resize', scale=(90, 190), keep_ratio=True),
    ],
    ids=lambda each: '-'.join(str(value) for value in each.values()),
)
@pytest.mark.parametrize('color', ['color', 'grayscale'])
def test_pixels_equal_those_of_the_pipeline(resize, color, tmp_path):
    crop = dict(type='CenterCrop', crop_size=(33, 28))
    load, *others = built(dict(LOAD, color_type=color), resize, crop, PACK)
    preparation = preparation_of([load, *others])
    assert preparation.shape == (28, 33, 3 if color == 'color' else 1)
    # A picture of other sizes than those that the description was checked with, through the file.
    picture = np.random.default_rng(1).integers(0, 256, (151, 87, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'picture.png'), picture)
    results = dict(img_path=str(tmp_path / 'picture.png'))
    for transform in [load, *others]:
        results = transform(results)
    wanted = results['inputs'].numpy().transpose(1, 2, 0)[:, :, ::-1]
    found = preparation(preparation.read(str(tmp_path / 'picture.png')))
    np.testing.assert_array_equal(found, wanted)
    assert Preparation(**preparation.as_dict()) == preparation


@pytest.mark.parametrize(
    ('transforms', 'message'),
    [
        ((dict(type='Normalize', mean=[0, 0, 0], std=[1, 1, 1]), CROP), 'Normalize, which an exported file cannot'),
        ((dict(type='CenterCrop', crop_size=48, auto_pad=True),), 'auto_pad'),
        ((dict(type='Resize', scale_factor=0.5),), 'scale_factor'),
        ((dict(type='mmpretrain.ResizeEdge', scale=64),), 'does not bring pictures to one size'),
        ((), '--image-size'),
    ],
)
def test_what_a_file_cannot_hold_is_named(transforms, message):
    with pytest.raises(ValueError, match=message):
        preparation_of(built(LOAD, *transforms, PACK))


def test_a_pipeline_without_resizing_takes_one_size_and_refuses_others():
    preparation = preparation_of(built(dict(LOAD, color_type='grayscale'), PACK), (28, 28))
    assert preparation(np.zeros((28, 28), np.uint8)).shape == (28, 28, 1)
    with pytest.raises(ValueError, match='it is 30 x 28 x 1; the exported model takes 28 x 28 x 1'):
        preparation(np.zeros((30, 28), np.uint8))
    # A pipeline with a size of its own would leave the other one without effect.
    assert preparation_of(built(LOAD, SQUARE, PACK), (48, 48)).shape == (48, 48, 3)
    with pytest.raises(ValueError, match='to 48 x 48 pixels, whatever its size: leave --image-size 64 out'):
        preparation_of(built(LOAD, SQUARE, PACK), (64, 64))


def test_loading_in_another_way_is_refused():
    with pytest.raises(ValueError, match='in 8 bits'):
        preparation_of(built(dict(LOAD, to_float32=True), CROP, PACK))
