import numpy as np
import pytest

from mmdml.datasets.transforms.random_affine import affine_matrix
from mmdml.registry import TRANSFORMS


def build(**options):
    return TRANSFORMS.build(dict(type='RandomAffine', **options))


def spot(x, y, size=9):
    image = np.zeros((size, size), np.uint8)
    image[y, x] = 255
    return image


def place(image):
    """(x, y) of the brightest pixel."""
    y, x = np.unravel_index(image.argmax(), image.shape)
    return int(x), int(y)


def test_without_options_nothing_changes():
    image = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    assert np.array_equal(build()(dict(img=image.copy()))['img'], image)


@pytest.mark.parametrize('shape', [(28, 28), (28, 28, 1), (12, 20, 3)])
def test_shape_and_type_stay(shape):
    image = np.full(shape, 200, np.uint8)
    out = build(degrees=30, translate=0.2, scale=(0.5, 1.5), shear=20)(dict(img=image))['img']
    assert out.shape == shape and out.dtype == np.uint8


def test_rotation_by_ninety_degrees_is_counter_clockwise_about_the_center():
    matrix = affine_matrix(90, 0, 1, 0, 0, 9, 9)
    np.testing.assert_allclose(matrix @ [4, 4, 1], [4, 4], atol=1e-12)
    # Right of the center goes above it; y points down.
    np.testing.assert_allclose(matrix @ [6, 4, 1], [4, 2], atol=1e-12)


def test_scale_above_one_enlarges_about_the_center():
    np.testing.assert_allclose(affine_matrix(0, 0, 2, 0, 0, 9, 9) @ [5, 4, 1], [6, 4])


def test_shear_moves_rows_below_the_center_to_the_right():
    matrix = affine_matrix(0, 45, 1, 0, 0, 9, 9)
    np.testing.assert_allclose([matrix @ [4, 6, 1], matrix @ [4, 4, 1]], [[6, 6], [4, 4]], atol=1e-12)


def test_shift_is_added_after_rotation_and_scale():
    np.testing.assert_allclose(affine_matrix(90, 0, 2, 3, -1, 9, 9) @ [4, 4, 1], [7, 3], atol=1e-12)


def test_picture_moves_where_the_matrix_says(monkeypatch):
    transform = build(degrees=90, translate=0.5)
    monkeypatch.setattr(np.random, 'random_sample', lambda size: np.array([1.0, 0.5, 0.5, 0.5, 0.5]))
    assert place(transform(dict(img=spot(6, 4)))['img']) == (4, 2)


def test_fill_shows_outside_of_the_picture():
    np.random.seed(0)
    out = build(scale=(0.5, 0.5), fill=90)(dict(img=np.full((20, 20), 200, np.uint8)))['img']
    assert out[0, 0] == 90 and out[10, 10] == 200


def test_numbers_come_from_numpys_global_generator_and_cover_the_range():
    transform = build(translate=0.25)
    columns = set()
    np.random.seed(0)
    outs = [transform(dict(img=spot(8, 8, 17)))['img'] for _ in range(200)]
    np.random.seed(0)
    assert np.array_equal(transform(dict(img=spot(8, 8, 17)))['img'], outs[0])
    columns = {place(out)[0] for out in outs}
    # A quarter of 17 pixels: up to 4.25 to either side.
    assert columns == set(range(4, 13))


@pytest.mark.parametrize(
    'options', [dict(degrees=-1), dict(translate=-0.1), dict(shear=90), dict(scale=(0, 1)), dict(scale=(2, 1))]
)
def test_ranges_that_make_no_sense_are_named(options):
    (name, value), *_ = options.items()
    with pytest.raises(ValueError) as error:
        build(**options)
    assert f'{name}={value}' in str(error.value)


def test_unknown_interpolation_is_named():
    with pytest.raises(ValueError, match="interpolation='area'"):
        build(interpolation='area')


@pytest.mark.parametrize('fill', [200, (200, 200, 200)])
@pytest.mark.parametrize('shape', [(28, 28), (28, 28, 1), (28, 28, 3)])
def test_an_affine_map_fills_all_channels(fill, shape):
    if isinstance(fill, tuple) and shape != (28, 28, 3):
        fill = fill[:1]
    np.random.seed(0)
    image = build(degrees=45, fill=fill, interpolation='nearest')(dict(img=np.full(shape, 100, np.uint8)))['img']
    assert image.shape == shape and set(image[0, 0].ravel().tolist()) == {200} and image[14, 14].ravel()[0] == 100
