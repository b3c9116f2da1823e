"""Vectors in one growing file, mapped into memory to be read."""

import errno
import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmdml.utils.files import replaced_when_whole
from mmdml.utils.names import printable

_MAGIC = b'mmdmlvec'
_VERSION = 1
# Magic, version, dimensions, identity of the store; filled up to 64 bytes, so that rows begin at a cache line.
_HEADER = struct.Struct('<8sII16s32x')
# Rows that are copied at a time.
_COPIED = 1 << 13


class VectorFile:
    """``(N, D)`` float32 rows behind a header that names the store they belong to.

    How many rows count stands elsewhere: rows behind them are what a killed writer left, and the next one cuts them
    off.

    Args:
        path: of the file.
        dimensions: D.
        identity: 16 bytes that name the store.
        count: rows that must be there.
        write: allow :meth:`append`, and cut off what is behind ``count``.

    Raises:
        ValueError: the file is missing, another store's, or shorter than ``count`` rows.
    """

    def __init__(self, path: Path, dimensions: int, identity: bytes, count: int, write: bool) -> None:
        self.path, self.dimensions = path, dimensions
        self._row = 4 * dimensions
        try:
            self._file = os.open(path, os.O_RDWR if write else os.O_RDONLY)
        except FileNotFoundError:
            raise ValueError(f'{printable(path)} is missing, the store is damaged; {_REMEDY}') from None
        try:
            self._check(identity, count)
            if write:
                self.cut(count)
        except BaseException:
            self.close()
            raise
        self._mapped = np.empty((0, dimensions), np.float32)

    @staticmethod
    def create(path: Path, dimensions: int, identity: bytes) -> None:
        """Make a file without rows; one that is there is replaced."""
        with replaced_when_whole(path) as beside:
            beside.write_bytes(_HEADER.pack(_MAGIC, _VERSION, dimensions, identity))

    @staticmethod
    def copy(path: Path, identity: bytes, matrix: np.ndarray, rows: np.ndarray) -> None:
        """Make a file of some rows of a matrix, and bring it to the disk."""
        VectorFile.create(path, matrix.shape[1], identity)
        file = VectorFile(path, matrix.shape[1], identity, 0, write=True)
        try:
            for start in range(0, len(rows), _COPIED):
                file.append(start, matrix[rows[start : start + _COPIED]], flush=False)
            file.flush()
        finally:
            file.close()

    @staticmethod
    def holds_rows(path: Path) -> bool:
        """Whether there is a file with more than the header."""
        return path.exists() and path.stat().st_size > _HEADER.size

    def append(self, count: int, vectors: np.ndarray, flush: bool = True) -> None:
        """Write rows behind the first ``count``, and bring them to the disk.

        Args:
            count: rows that stay.
            vectors: ``(N, D)`` contiguous float32.
            flush: False leaves them to :meth:`flush`.

        Raises:
            OSError: the disk is full, for instance; what was written is cut off again.
        """
        data = memoryview(vectors).cast('B')
        at = self._end(count)
        try:
            while data:
                written = os.pwrite(self._file, data, at)
                data, at = data[written:], at + written
            if flush:
                self.flush()
        except OSError as error:
            self.cut(count)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            hint = '; make room on the disk and run it again' if full else ''
            raise OSError(
                error.errno,
                f'{error.strerror}: the vectors were not added, the store is as before{hint}',
                str(self.path),
            ) from error

    def flush(self) -> None:
        """Bring what was written to the disk."""
        os.fsync(self._file)

    def cut(self, count: int) -> None:
        """Cut off all behind the first ``count`` rows."""
        if os.fstat(self._file).st_size > self._end(count):
            os.ftruncate(self._file, self._end(count))

    def mapped(self, count: int) -> np.ndarray:
        """Return the first ``count`` rows ``(count, D)``, read from the disk where they are used.

        Raises:
            ValueError: the file was cut meanwhile.
        """
        # Reading behind the end of a file that was cut would end the process.
        self._check_length(count)
        if count > len(self._mapped):
            memory = mmap.mmap(self._file, self._end(count), access=mmap.ACCESS_READ)
            rows = np.frombuffer(memory, np.float32, offset=_HEADER.size)
            self._mapped = rows.reshape(count, self.dimensions)
        return self._mapped[:count]

    def verify(self, count: int, rows: np.ndarray, checksums: Sequence[int]) -> None:
        """Compare some of the first ``count`` rows with their checksums.

        Raises:
            ValueError: one is another than the one that was added.
        """
        vectors = self.mapped(count)
        for row, checksum in zip(rows.tolist(), checksums, strict=True):
            if zlib.crc32(vectors[row]) != checksum:
                raise ValueError(
                    f'{printable(self.path)} was changed or exchanged: vector {row} is not the one that was added; '
                    f'{_REMEDY}'
                )

    def close(self) -> None:
        """Close the file; a mapping is released with the last array that shows it."""
        self._mapped = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _end(self, count: int) -> int:
        return _HEADER.size + count * self._row

    def _check(self, identity: bytes, count: int) -> None:
        header = os.pread(self._file, _HEADER.size, 0)
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            raise ValueError(f'{printable(self.path)} is no file of vectors, the store is damaged; {_REMEDY}')
        _, version, dimensions, owner = _HEADER.unpack(header)
        if version != _VERSION:
            raise ValueError(f'{printable(self.path)} has version {version}, this mmdml reads version {_VERSION}')
        if owner != identity or dimensions != self.dimensions:
            raise ValueError(f'{printable(self.path)} belongs to another store; {_REMEDY}')
        self._check_length(count)

    def _check_length(self, count: int) -> None:
        size = os.fstat(self._file).st_size
        if size < self._end(count):
            raise ValueError(
                f'{printable(self.path)} was cut: it holds {max(0, size - _HEADER.size) // self._row} of {count} '
                f'vectors; {_REMEDY}'
            )


_REMEDY = 'restore the whole folder from a copy, or make the store anew'
