"""Reading what the benchmarks' authors distribute, with errors that name file and line."""

import os.path as osp
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.io import loadmat

from mmdml.datasets.samples import Samples
from mmdml.utils.tables import read_lines

#: Bytes that the variables of a MATLAB file may have; those of the benchmarks have up to 15 MB.
MAX_MATLAB_BYTES = 64 << 20

_COMPRESSED = 15


def require_parts(dataset: str, root: str, parts: Sequence[str], source: str) -> None:
    """Check that files and folders are there.

    Args:
        dataset: class name, for the message.
        root: folder that should hold them.
        parts: names relative to ``root``.
        source: official address and file, for the message.

    Raises:
        FileNotFoundError: names all parts, those that are missing, and the source.
    """
    missing = [part for part in parts if not osp.exists(osp.join(root, part))]
    if missing:
        raise FileNotFoundError(
            f'{dataset} looks for {", ".join(parts)} in {osp.abspath(root)}; missing: {", ".join(missing)}. '
            f'Get them from {source}; mmdml prepare {dataset} ... lays them out'
        )


def read_columns(
    path: str, columns: Mapping[str, Callable[[str], Any]], header_line: int = 0, note: str = ''
) -> list[list]:
    """Read columns of a text file without quotes, parted by blanks; the last one takes the rest of its line.

    Args:
        path: the file, UTF-8; empty lines and lines that begin with ``#`` are skipped.
        columns: name of each column and what turns its text into a value; it raises ValueError for a wrong text.
        header_line: number of the line with the names of the columns, data follow; 0 for none.
        note: what the message on a wrong line says beyond the names.

    Returns:
        One list a column.

    Raises:
        ValueError: a wrong header or line (with its number), no data, or a file that is not UTF-8.
    """
    wanted = f'"{" ".join(columns)}"'
    lines = read_lines(path)
    if header_line and ''.join(lines[header_line - 1 : header_line]).split() != list(columns):
        found = lines[header_line - 1] if len(lines) >= header_line else 'the end of the file'
        raise ValueError(f'{osp.abspath(path)}, line {header_line}: expected the header {wanted}, got {found!r}')
    table = [(kind, []) for kind in columns.values()]
    for number, line in enumerate(lines[header_line:], header_line + 1):
        line = line.strip()
        if not line or line.startswith('#'):
            continue
        fields = line.split(maxsplit=len(table) - 1)
        try:
            for (kind, values), field in zip(table, fields, strict=True):
                values.append(kind(field))
        except ValueError:
            raise ValueError(f'{osp.abspath(path)}, line {number}: expected {wanted}{note}, got {line!r}') from None
    if not table[0][1]:
        raise ValueError(f'{osp.abspath(path)} has no line {wanted}')
    return [values for _, values in table]


def number_classes(ids: Sequence[int | str]) -> tuple[list[str], np.ndarray]:
    """Return class names in the order of their ids (by number, or by text), and the position of each image's class.

    Args:
        ids: ``N`` class ids, all numbers or all texts.

    Returns:
        ``C`` names, and ``(N,)`` int64 labels.
    """
    classes, labels = np.unique(np.asarray(ids), return_inverse=True)
    return [str(name) for name in classes.tolist()], labels.astype(np.int64)


def read_matlab(
    path: str, variables: Sequence[str], note: str = '', max_bytes: int = MAX_MATLAB_BYTES
) -> dict[str, np.ndarray]:
    """Read variables of a MATLAB file, without axes of length 1 (but with one axis at least).

    Args:
        path: the file.
        variables: their names.
        note: what the message on a missing variable says beyond the names.
        max_bytes: refuse a file whose variables have more bytes than this when they are decompressed.

    Raises:
        ValueError: the file cannot be read, is too large, or lacks a variable.
    """
    try:
        found = _decompressed_bytes(path, max_bytes)
        content = loadmat(path, squeeze_me=True, variable_names=variables) if found <= max_bytes else {}
    except Exception as error:
        # scipy raises many kinds for what is not a MATLAB file, e.g. a server's error page under its name.
        raise ValueError(f'{osp.abspath(path)} cannot be read as a MATLAB file: {error}') from error
    if found > max_bytes:
        raise ValueError(
            f'{osp.abspath(path)} holds {found:,} bytes of variables or more, the limit is {max_bytes:,}: it is not '
            'the official file'
        )
    missing = [name for name in variables if name not in content]
    if missing:
        raise ValueError(f'{osp.abspath(path)} must hold {" and ".join(variables)}; missing: {missing}{note}')
    return {name: np.atleast_1d(content[name]) for name in variables}


def _decompressed_bytes(path: str, enough: int) -> int:
    """Bytes of all variables of a MATLAB file of version 5, counted until there are more than ``enough``."""
    total = osp.getsize(path)
    with open(path, 'rb') as file:
        order = {b'IM': '<', b'MI': '>'}.get(file.read(128)[126:])
        while order and total <= enough and len(tag := file.read(8)) == 8:
            kind, size = struct.unpack(f'{order}II', tag)
            if kind != _COMPRESSED:
                file.seek(size, 1)
                continue
            stream, rest = zlib.decompressobj(), file.read(size)
            while rest and total <= enough:
                total += len(stream.decompress(rest, 1 << 20))
                rest = stream.unconsumed_tail
    return total


def whole_numbers(path: str, what: str, values: np.ndarray) -> np.ndarray:
    """Numbers of a MATLAB file, which are often fp64, as ``(N,)`` int64.

    Args:
        path: the file, for the message.
        what: the numbers are, for the message.
        values: ``(N,)`` numbers.

    Raises:
        ValueError: one is not a whole number.
    """
    try:
        numbers = np.asarray(values, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        raise ValueError(f'{osp.abspath(path)}: {what} must be whole numbers') from None
    wrong = np.flatnonzero(numbers != np.round(numbers))
    if len(wrong):
        raise ValueError(
            f'{osp.abspath(path)}: {what} {wrong[0] + 1} of {len(numbers)} is {numbers[wrong[0]]:g}, expected a whole '
            'number'
        )
    return numbers.astype(np.int64)


def split_by_class(
    split: str, paths: Sequence[str], labels: np.ndarray, classes: Sequence[str], num_train: int
) -> Samples:
    """Return the images of the first ``num_train`` classes, or of the others where ``split`` is ``'test'``.

    Args:
        split: of the dataset.
        paths: ``N`` image paths.
        labels: ``(N,)`` positions in ``classes``.
        classes: names of all classes, in the official order.
        num_train: classes that train.
    """
    start, stop = (num_train, len(classes)) if split == 'test' else (0, num_train)
    kept = np.flatnonzero((labels >= start) & (labels < stop))
    return Samples([paths[i] for i in kept], labels[kept] - start, list(classes[start:stop]))
