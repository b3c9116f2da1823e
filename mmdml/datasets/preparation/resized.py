"""A copy of a folder whose images are stored once at the size that training needs."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from mmdml.datasets.preparation.image_check import image_problem
from mmdml.datasets.preparation.resized_lists import LISTS, ListCopy
from mmdml.utils.files import remove_leftovers, write_atomically
from mmdml.utils.image_decoding import decode_image
from mmdml.utils.image_files import scan_images
from mmdml.utils.machine import available_cores
from mmdml.utils.names import printable
from mmdml.utils.progress import ProgressLine

#: Quality of the JPEG files that are written, of 100.
QUALITY = 95
#: Of which size the folder is; it makes a second run with another one end in an error.
FACTS = 'resized.json'

# Seconds; file systems keep times as coarse as two.
_SAME_TIME = 2
# Pixels of a side that JPEG can hold with OpenCV's encoder.
_LONGEST = 65_500
_JPEG = ('.jpg', '.jpeg')


@dataclass
class Resized:
    """What was done.

    Attributes:
        written: images written now.
        there: images that an earlier run has written.
        lists: files of lists that were written, with the number of their paths that lead out of the folder.
        broken: images that could not be read, with the reason.
        left: images of the copy whose originals are gone.
    """

    written: int = 0
    there: int = 0
    lists: dict[str, int] = field(default_factory=dict)
    broken: list[tuple[str, str]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def resize_folder(
    source: str, target: str, side: int, quality: int = QUALITY, significant_bits: int | None = None
) -> Resized:
    """Write every image below a folder with a short side of ``side``, as JPEG, under the same path.

    An image that is smaller keeps its size. One whose name ends otherwise than ``.jpg`` gets ``.jpg`` appended, and so
    do its paths in lists (``.txt``, ``.csv``, ``.tsv``, ``.lst``), which are copied, see
    :class:`~mmdml.datasets.preparation.resized_lists.ListCopy`. Orientation, bits beyond eight and transparency are
    resolved as loading resolves them; an image of 16 bits that would be nearly black is left out. The source is not
    changed; what is there already stays, so that a run that was stopped goes on. A copy has the time of change of its
    original: where the two differ, the original was replaced, and is stored anew.

    Args:
        source: folder of images and lists.
        target: folder to write, neither the source nor in it.
        side: pixels of the shorter side, at least 1.
        quality: of the JPEG files, 1 to 100.
        significant_bits: of 16-bit images, see :func:`~mmdml.utils.image_decoding.decode_image`.

    Raises:
        FileNotFoundError: no folder, or no image in it.
        ValueError: ``side`` or ``quality`` out of range, a target in the source, or one of another size, or
            two images that would be stored under one name, or a damaged ``resized.json`` in it.
    """
    if side < 1 or not 1 <= quality <= 100:
        raise ValueError(f'the side must be at least 1 and the quality in 1..100, got {side} and {quality}')
    root, out = Path(source).resolve(), Path(target).resolve()
    if not root.is_dir():
        raise FileNotFoundError(f'there is no folder {printable(root)}')
    if out == root or root in out.parents or out in root.parents:
        raise ValueError(
            f'{printable(out)} and {printable(root)} overlap: name a folder beside the one with the images'
        )
    found = scan_images(str(root))
    if not found.images:
        raise FileNotFoundError(f'there is no image in {printable(root)} or below it')
    names = {path: stored_name(path) for path in found.images}
    for path, name in names.items():
        if name != path and name in names:
            raise ValueError(f'{printable(path)} would be stored as {printable(name)}, which is there too; rename one')
    out.mkdir(parents=True, exist_ok=True)
    _require_same(out, dict(side=side, quality=quality, source=os.fspath(root), significant_bits=significant_bits))
    for folder in {(out / name).parent for name in names.values()}:
        remove_leftovers(folder)
    done = Resized()
    with ProgressLine('images', len(found.images)) as line, ThreadPoolExecutor(available_cores()) as pool:
        problems = pool.map(lambda each: _store(root, out, each, side, quality, significant_bits), found.images)
        for path, problem in zip(found.images, problems, strict=True):
            line.add(1)
            done.written += problem == ''
            done.there += problem is None
            done.broken += [(path, problem)] if problem else []
    done.left = sorted(set(scan_images(str(out), regular=False).images) - set(names.values()))
    lists = ListCopy(root, out, names)
    for path in found.others:
        if path.lower().endswith(LISTS):
            content, done.lists[path] = lists.of(path)
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            with write_atomically(out / path) as file:
                file.write(content)
    return done


def stored_name(path: str) -> str:
    """Return the path under which an image is stored."""
    return path if path.lower().endswith(_JPEG) else f'{path}.jpg'


def _require_same(out: Path, facts: dict[str, object]) -> None:
    path = out / FACTS
    if path.exists():
        before = dict(significant_bits=None) | _read_facts(path)
        # Images whose bits had to be given were left out so far.
        if before not in (facts, facts | dict(significant_bits=None)):
            raise ValueError(f'{printable(out)} was made with {before}, not {facts}; choose another folder')
    elif any(out.iterdir()):
        raise ValueError(f'{printable(out)} has other files in it; choose a new folder')
    with write_atomically(path, 'w', encoding='utf-8') as file:
        file.write(json.dumps(facts) + '\n')


def _read_facts(path: Path) -> dict[str, object]:
    try:
        facts = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{printable(path)} is damaged: {error}; choose another folder') from error
    if not isinstance(facts, dict):
        raise ValueError(f'{printable(path)} is damaged: it holds {facts!r}; choose another folder')
    return facts


def _store(root: Path, out: Path, path: str, side: int, quality: int, significant_bits: int | None) -> str | None:
    """Write one image; return '' if it was, None if it is there, else what is wrong with it."""
    target, state = out / stored_name(path), (root / path).stat()
    if target.exists():
        if abs(target.stat().st_mtime - state.st_mtime) < _SAME_TIME:
            return None
        target.unlink()  # of another original: no copy of it stays if this one cannot be read
    problem = image_problem(str(root / path))
    if problem:
        return problem
    # At least twice what is needed stays for the average over areas.
    dark: list[int] = []
    image = decode_image(
        (root / path).read_bytes(), significant_bits=significant_bits, on_dark=dark.append, least_side=2 * side
    )
    if dark:
        return (
            f'has 16 bits, but no value above {dark[0]:,}: as 16-bit data it is nearly black. Say how many bits the '
            'data have: --significant-bits 12; 16 keeps it as it is'
        )
    height, width = image.shape[:2]
    scale = side / min(height, width)
    if scale < 1:
        size = max(side, round(width * scale)), max(side, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if max(image.shape[:2]) > _LONGEST:
        return f'is {max(image.shape[:2]):,} pixels long at this size, and JPEG takes {_LONGEST:,}'
    encoded = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    target.parent.mkdir(parents=True, exist_ok=True)
    # Leftovers were looked for once: a look for each image would take hours in a folder of 100,000.
    with write_atomically(target, leftovers=False) as file:
        file.write(encoded.tobytes())
    os.utime(target, ns=(state.st_atime_ns, state.st_mtime_ns))
    return ''
