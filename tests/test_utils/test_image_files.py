"""Sizes of pictures by their headers."""

import io

import numpy as np
import pytest
from PIL import Image

from mmdml.utils.image_files import check_pixels


def jpeg(**options):
    file = io.BytesIO()
    Image.fromarray(np.zeros((30, 50, 3), np.uint8)).save(file, 'JPEG', **options)
    return file.getvalue()


def exif():
    found = Image.Exif()
    found[0x0112] = 6
    return found


@pytest.mark.parametrize(
    'options', [{}, dict(progressive=True), dict(exif=exif(), comment='\xff\xc0'), dict(dpi=(9, 9))]
)
def test_a_jpeg_file_is_measured_in_its_frame_header(options):
    check_pixels(jpeg(**options), 1500)
    with pytest.raises(ValueError, match=r'it has 50 x 30 = 1,500 pixels, the limit is max_pixels=1,499'):
        check_pixels(jpeg(**options), 1499)


def test_a_jpeg_file_with_fill_bytes_is_measured_too_and_one_that_is_cut_passes_on_to_the_decoder():
    data = jpeg()
    with pytest.raises(ValueError, match='50 x 30'):
        check_pixels(data[:2] + b'\xff\xff' + data[2:], 1499)
    for length in (0, 2, 3, 10, 20, 100):
        check_pixels(data[:length], 1)
