"""Which files are images: kinds, scans of folders that say what they leave out, and checks before decoding."""

import io
import os
import os.path as osp
import re
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from mmdml.utils.names import printable

#: Endings, in lower case, of the kinds of images that OpenCV reads.
IMAGE_SUFFIXES = (
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.jp2', '.png', '.webp', '.gif', '.bmp', '.dib', '.tif', '.tiff', '.avif'),
    *('.ppm', '.pgm', '.pbm', '.pnm', '.pam', '.pfm', '.sr', '.ras', '.hdr', '.pic'),
)
#: Pixels above which an image is refused before it is decoded, where nothing else is said; a third of a gigabyte in
#: gray, three times as much in color.
MAX_PIXELS = 250_000_000

# What file managers leave in every folder.
_SYSTEM_FILES = {'thumbs.db', 'desktop.ini'}


@dataclass
class Scan:
    """Files below a folder.

    Attributes:
        images: sorted paths of the images, relative to the folder the scan began with.
        others: paths of files that are no images by the ending of their names.
    """

    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def scan_images(root: str, below: str = '', recursive: bool = True, regular: bool = True) -> Scan:
    """List the images in a folder, and what else is there.

    Names that begin with a dot are skipped. Links to folders are followed, but not those to a folder above, and no
    folder is taken twice.

    Args:
        root: folder that the paths are relative to.
        below: folder in it to scan.
        recursive: scan the folders in it as well.
        regular: refuse what cannot be read as a file; without it, only reading does.

    Raises:
        ValueError: an image's name belongs to a pipe, a device or a broken link, and ``regular``.
        OSError: a folder cannot be read.
    """
    found = Scan()
    # A link to a folder above would bring the folder in again, and all others with it.
    seen = with_parents(root) | with_parents(osp.join(root, below))
    for folder, subfolders, files in os.walk(osp.join(root, below), onerror=_raise, followlinks=True):
        subfolders[:] = [sub for sub in sorted(subfolders) if sub[0] != '.' and _add(osp.join(folder, sub), seen)]
        if not recursive:
            subfolders.clear()
        relative = osp.relpath(folder, root)
        for name in files:
            if name[0] == '.' or name.lower() in _SYSTEM_FILES:
                continue
            path = name if relative == '.' else osp.join(relative, name)
            if is_image_name(name):
                if regular:
                    require_regular(osp.join(folder, name), there=True)
                found.images.append(path)
            else:
                found.others.append(path)
    found.images.sort()
    found.others.sort()
    return found


def is_image_name(name: str) -> bool:
    """Whether a file is of a kind that OpenCV reads, by the ending of its name in any case."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def others_note(root: str, others: Sequence[str]) -> list[str]:
    """Return a sentence about the files that a scan left out, none if there are none."""
    if not others:
        return []
    kinds = Counter(osp.splitext(path)[1].lower() or 'no ending' for path in others)
    counted = ', '.join(f'{kind} {count}' for kind, count in kinds.most_common(5))
    return [
        f'{len(others)} files in {printable(osp.abspath(root))} are left out: by their names they are no pictures that '
        f'OpenCV reads ({printable(counted)}), e.g. {printable(others[0])}'
    ]


def require_regular(path: str, there: bool = False) -> None:
    """Check that reading a file comes to an end: pipes and devices may have none.

    Args:
        path: of the file; addresses (``s3://...``) pass.
        there: also refuse a name that leads to no file, such as a broken link.

    Raises:
        ValueError: it is no regular file.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        if there:
            raise ValueError(f'{printable(path)} is a link that leads nowhere; remove it') from None
        return
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: 'a pipe', stat.S_IFCHR: 'a device', stat.S_IFBLK: 'a device', stat.S_IFDIR: 'a folder'}
        kind = kinds.get(stat.S_IFMT(mode), 'a socket')
        raise ValueError(f'{printable(path)} is {kind}, not a picture; remove it or take it off the list')


def check_pixels(data: bytes, max_pixels: int | None = MAX_PIXELS) -> None:
    """Check the size that an image's header says, before anything is decoded.

    Args:
        data: the file.
        max_pixels: limit; None for none. What Pillow cannot read passes, up to OpenCV's own limit of 2**30 pixels.

    Raises:
        ValueError: the image has more pixels.
    """
    if max_pixels is None:
        return
    try:
        width, height = _jpeg_size(data) or _size_by_pillow(data)
        pixels, size = width * height, f'{width:,} x {height:,} = '
    except Image.DecompressionBombError as error:
        # Pillow's own limit; its message begins with the number of pixels.
        pixels, size = int(re.search(r'\d+', str(error))[0]), ''
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError):
        return
    if pixels > max_pixels:
        raise ValueError(f'it has {size}{pixels:,} pixels, the limit is max_pixels={max_pixels:,}')


def _size_by_pillow(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        return image.size


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in the frame header of a JPEG file; None where it does not follow plain segments.

    Pillow reads all segments, which takes a tenth of the time of decoding a small picture.
    """
    at = 2 if data.startswith(b'\xff\xd8') else len(data)
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], 'big')
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 7 : at + 9], 'big'), int.from_bytes(data[at + 5 : at + 7], 'big')
        if not 0xC4 <= marker <= 0xFE or 0xD0 <= marker <= 0xDA or length < 2:
            return None
        at += 2 + length
    return None


def with_parents(folder: str) -> set[str]:
    """Return the folder and all folders it is in, without links."""
    path = Path(osp.realpath(folder))
    return {str(each) for each in (path, *path.parents)}


def _raise(error: OSError) -> None:
    raise type(error)(error.errno, f'{error.strerror}: a folder of pictures cannot be read', error.filename)


def _add(folder: str, seen: set[str]) -> bool:
    """Whether the folder is new to ``seen``, which has it then."""
    path = osp.realpath(folder)
    new = path not in seen
    seen.add(path)
    return new
