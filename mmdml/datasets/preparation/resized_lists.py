"""Lists of images that were stored under other names, with their paths changed and all else as it was."""

import csv
import io
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path

from mmdml.utils.image_files import IMAGE_SUFFIXES
from mmdml.utils.tables import split_header, text_encoding

#: Endings of the names of lists.
LISTS = ('.txt', '.csv', '.tsv', '.lst')

_ENDINGS = '|'.join(re.escape(each) for each in sorted(IMAGE_SUFFIXES, key=len, reverse=True))
_END = re.compile(rf'(?:{_ENDINGS})(?=["\'\s,;|]|$)', re.IGNORECASE)
_START = re.compile(r'(?:^|(?<=["\'\s,;|]))(?=[^"\'\s,;|])')


class ListCopy:
    """Copies of the lists of a folder, for the copies of its images.

    The paths of a table are its column ``path``; in any other text they are what names an image of the folder, from
    the folder of the list, from the whole one, or from one between. Absolute paths lead to the copies, too. What
    names no image of the folder stays. A file in no encoding that lists have is copied as it is.

    Args:
        root: folder of the images and lists.
        out: folder of the copies.
        names: path of each copy by that of its image, relative to both.
    """

    def __init__(self, root: Path, out: Path, names: dict[str, str]) -> None:
        self.root, self.out, self.names = root, out, names
        self._ends: Collection[str] = {end for path, name in names.items() if name != path for end in _ends_of(path)}

    def of(self, path: str) -> tuple[bytes, int]:
        """Return the copy of the list at ``path``, and how many of its paths lead out of the folder."""
        content, outside = (self.root / path).read_bytes(), []
        encoding = text_encoding(content)
        # Of UTF-8, bytes that are none pass through, as they do in names of files.
        errors = 'surrogateescape' if encoding.startswith('utf-8') else 'strict'
        try:
            text = content.decode(encoding, errors)
        except UnicodeDecodeError:
            return content, 0
        folder = os.path.dirname(path)

        def renamed(given: str) -> str | None:
            return self._renamed(given, folder, outside)

        copy = _table(text, renamed) or _text(text, renamed)
        return copy.encode(encoding, errors), len(outside)

    def _renamed(self, given: str, folder: str, outside: list[str]) -> str | None:
        """Return a path as the copy of a list has it; None for what names no image of the folder."""
        inside = self._inside(os.path.normpath(self.root / folder / given))
        if inside is None:
            outside.append(given)
            return given
        if inside in self.names:
            name = self.names[inside]
            return os.fspath(self.out / name) if os.path.isabs(given) else given + name.removeprefix(inside)
        return f'{given}.jpg' if os.path.normpath(given) in self._ends else None

    def _inside(self, path: str) -> str | None:
        """Return a path relative to the folder; None for one that is not below it, by no link either."""
        folder, name = os.path.split(path)
        for each in (path, os.path.join(os.path.realpath(folder), name)):
            inside = os.path.relpath(each, self.root)
            if inside.split('/')[0] != '..':
                return inside
        return None


def _ends_of(path: str) -> list[str]:
    """``'a/b/c'`` as ``['a/b/c', 'b/c', 'c']``."""
    parts = path.split('/')
    return ['/'.join(parts[start:]) for start in range(len(parts))]


def _table(text: str, renamed: Callable[[str], str | None]) -> str:
    """Return a table with its column ``path`` renamed; '' for what is no table with one."""
    try:
        delimiter, header = split_header(next((line for line in io.StringIO(text) if line.strip()), ''))
        if len(header) < 2 or 'path' not in header:
            return ''
        rows = list(csv.reader(io.StringIO(text, newline=''), delimiter=delimiter))
    except csv.Error:
        return ''
    place = header.index('path')
    for row in rows:
        if len(row) > place:
            given = row[place].strip()
            row[place] = (renamed(given) if given else None) or row[place]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator='\r\n' if '\r\n' in text else '\n').writerows(rows)
    return out.getvalue()


def _text(text: str, renamed: Callable[[str], str | None]) -> str:
    """Return a text with the longest names of images in each line renamed."""
    return ''.join(_line(line, renamed) for line in io.StringIO(text, newline=''))


def _line(line: str, renamed: Callable[[str], str | None]) -> str:
    done, written = 0, ''
    for end in (match.end() for match in _END.finditer(line)):
        for start in (match.start() for match in _START.finditer(line, done, end)):
            name = renamed(line[start:end])
            if name is not None:
                written += line[done:start] + name
                done = end
                break
    return written + line[done:]
