"""Pictures in frames with captions, in rows, as one image."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmdml.utils.files import replaced_when_whole
from mmdml.utils.image_decoding import decode_image
from mmdml.utils.image_files import require_regular
from mmdml.utils.names import printable

Color = tuple[int, int, int]

#: Side of a picture, and height of a line of text, in pixels.
SIDE, LINE = 128, 18
PAPER, INK, FAINT = (250, 250, 250), (25, 25, 25), (205, 205, 205)
#: Frames of right and wrong results, and of a query.
RIGHT, WRONG, QUERY = (24, 140, 60), (205, 35, 45), (50, 90, 190)


def tile(image: np.ndarray | None, lines: Sequence[str], frame: Color = FAINT, border: int = 1) -> np.ndarray:
    """Draw one picture, fitted in without distortion, over lines of text.

    Args:
        image: ``(H, W, 3)`` or ``(H, W)``, RGB or gray, 0 to 255; None: a gray field stands for it.
        lines: of text; one that is too long loses its middle.
        frame: color of the border.
        border: its width in pixels.

    Returns:
        ``(SIDE + LINE * len(lines) + 2 border, SIDE + 2 border, 3)`` uint8 RGB.
    """
    width, height = SIDE + 2 * border, SIDE + LINE * len(lines) + 2 * border
    canvas = Image.new('RGB', (width, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    if image is None:
        draw.rectangle((border, border, border + SIDE - 1, border + SIDE - 1), fill=(225, 225, 225))
        draw.text((width // 2, border + SIDE // 2), 'no picture', INK, _font(12), anchor='mm')
    else:
        picture = _fitted(image)
        canvas.paste(picture, (border + (SIDE - picture.width) // 2, border + (SIDE - picture.height) // 2))
    draw.rectangle((0, 0, width - 1, SIDE + 2 * border - 1), outline=frame, width=border)
    for number, line in enumerate(lines):
        top = 2 * border + SIDE + LINE * number
        draw.text((width // 2, top + LINE // 2), shortened(line, SIDE - 6), INK, _font(12), anchor='mm')
    return np.asarray(canvas)


def sheet(rows: Sequence[Sequence[np.ndarray]], title: str = '', headings: Sequence[str] = ()) -> np.ndarray:
    """Stack rows of tiles of one size.

    Args:
        rows: at least one, each of at least one tile; short ones are filled up.
        title: above all rows.
        headings: one line above each row; none: no headings.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    height, width = rows[0][0].shape[:2]
    across = width * max(map(len, rows))
    bands = [_text_band(title, across, 16, 30)] if title else []
    for number, row in enumerate(rows):
        if headings:
            bands.append(_text_band(headings[number], across, 13, 24))
        band = np.full((height, across, 3), PAPER, np.uint8)
        for at, each in enumerate(row):
            band[:, at * width : (at + 1) * width] = each
        bands.append(band)
    return np.vstack(bands)


def picture_map(
    points: np.ndarray, pictures: Callable[[int], np.ndarray | None], what: str, across: int = 24
) -> np.ndarray:
    """Draw small pictures where their points lie: of each cell of a grid, the one nearest to its center.

    Args:
        points: ``(N, 2)``.
        pictures: of the rows.
        what: the axes are, for the line below.
        across: cells on each side.
    """
    side = 48
    low, extent = points.min(axis=0), max(float(np.ptp(points, axis=0).max()), 1e-9)
    # The shorter axis lies in the middle.
    place = (points - low + (extent - np.ptp(points, axis=0)) / 2) / extent * across
    cells = np.minimum(place.astype(int), across - 1)
    away = np.linalg.norm(place - cells - 0.5, axis=1)
    canvas = Image.new('RGB', (across * side, across * side), PAPER)
    taken = set()
    for row in np.argsort(away, kind='stable').tolist():
        cell = tuple(cells[row].tolist())
        if cell not in taken and (image := pictures(row)) is not None:
            taken.add(cell)
            picture = _fitted(image, side)
            # Upwards is up.
            left, top = cell[0] * side, (across - 1 - cell[1]) * side
            canvas.paste(picture, (left + (side - picture.width) // 2, top + (side - picture.height) // 2))
    title = f'{len(taken)} of {len(points):,} pictures. {what}'
    return np.vstack([_text_band(title, across * side, 14, 28), np.asarray(canvas)])


def read_picture(path: str) -> np.ndarray | None:
    """Return a file as ``(H, W, 3)`` uint8 RGB, or None where it cannot be read."""
    try:
        require_regular(path)
        with open(path, 'rb') as file:
            return decode_image(file.read())[:, :, ::-1]
    except (OSError, ValueError):
        return None


def write_picture(path: str | Path, image: np.ndarray) -> str:
    """Write ``(H, W, 3)`` uint8 RGB as PNG, whole or not at all, and return the path.

    Raises:
        OSError: it cannot be written.
    """
    with replaced_when_whole(path) as beside:
        Image.fromarray(image).save(beside, 'png')
    return str(path)


def shortened(text: str, width: int, size: int = 12) -> str:
    """Cut the middle out of a text that is wider than ``width`` pixels; what cannot be printed is escaped."""
    text, font = printable(text), _font(size)
    if font.getlength(text) <= width:
        return text
    keep = len(text) - 1
    while keep > 2 and font.getlength(_without_middle(text, keep)) > width:
        keep -= 1
    return _without_middle(text, keep)


def _without_middle(text: str, keep: int) -> str:
    # The end of a name tells more than its beginning: folders come first, and numbers last.
    front = keep * 2 // 5
    return f'{text[:front]}…{text[len(text) - (keep - front) :]}'


def _fitted(image: np.ndarray, side: int = SIDE) -> Image.Image:
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    picture = Image.fromarray(np.ascontiguousarray(pixels)).convert('RGB')
    scale = side / max(picture.size)
    size = tuple(max(1, round(each * scale)) for each in picture.size)
    return picture.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)


def _text_band(text: str, width: int, size: int, height: int) -> np.ndarray:
    canvas = Image.new('RGB', (width, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((6, height // 2 + 2), shortened(text, width - 12, size), INK, _font(size), anchor='lm')
    return np.asarray(canvas)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # It has letters of more languages than Pillow's own, and comes with a package that MMEngine needs.
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf', size)
