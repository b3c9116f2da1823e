"""Unpacking tar and zip archives that may be hostile: regular files only, inside the target, within limits."""

import os
import os.path as osp
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import PurePosixPath, PureWindowsPath
from typing import BinaryIO
from zlib import error as ZlibError

from mmdml.utils.progress import ProgressLine

#: Bytes that an archive may unpack to where the caller says nothing; the largest official one has about 6 GB.
MAX_UNPACKED_BYTES = 64 << 30

_CHUNK = 1 << 20
# What the unpackers raise for a file that is cut, damaged, encrypted or no archive at all.
_UNPACK_ERRORS = (tarfile.TarError, zipfile.BadZipFile, ZlibError, LZMAError, EOFError, OSError, RuntimeError)

# Headers in front of a tar entry that hold its long name and the like. Python before 3.11.10 reads them in a time that
# grows with the square of their length, so both the length and the sum of the squares (about 25 s) have a limit.
_MAX_HEADER_BYTES = 1 << 14
_MAX_SQUARED_HEADER_BYTES = 40_000_000_000
_HEADER_TYPES = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


class ArchiveError(RuntimeError):
    """An archive that cannot be had, is not the right one, or cannot be laid out; says what to do."""


def unpack(path: str, folder: str, target: str, max_bytes: int = MAX_UNPACKED_BYTES) -> None:
    """Write the regular files below ``folder`` of a tar or zip archive to ``target``; links and devices are left out.

    The archive is read to its end, so that the checksum of a compressed one counts.

    Args:
        path: the archive; tar with any compression, or zip.
        folder: inside the archive; ``''`` takes everything.
        target: is made if it is not there.
        max_bytes: refuse an archive whose files have more bytes than this, those that are left out included.

    Raises:
        ArchiveError: no such folder, an entry that points outside, too much content, or an archive that cannot be
            read.
    """
    made, seen = set(), set()
    try:
        with _open_members(path, max_bytes) as members:
            for name, source in members:
                parts = checked_parts(path, name)
                seen.update(parts[:1])
                below = _below(parts, folder)
                if not below:
                    continue
                place = osp.join(target, *below)
                if osp.dirname(place) not in made:
                    os.makedirs(osp.dirname(place), exist_ok=True)
                    made.add(osp.dirname(place))
                with source() as content, open(place, 'wb') as file:
                    shutil.copyfileobj(content, file, _CHUNK)
    except ArchiveError:
        raise
    except _UNPACK_ERRORS as error:
        # An error number comes from this machine (disk full), a RuntimeError from an archive that is encrypted or
        # packed in an unknown way: the same file would come again.
        same_again = getattr(error, 'errno', None) or isinstance(error, RuntimeError)
        advice = '' if same_again else '; remove it and download it again'
        # tarfile has a line for each compression that it tried.
        cause = (str(error).splitlines() or [type(error).__name__])[0].rstrip(':')
        raise ArchiveError(f'cannot unpack {osp.abspath(path)}: {cause}{advice}') from error
    if not made:
        holds = ', '.join(sorted(seen)[:8]) or 'no file'
        wanted = f'no file in a folder {folder}' if folder else 'no file'
        raise ArchiveError(
            f'{osp.abspath(path)} holds {wanted}: this is not the official archive (its top level: {holds})'
        )


Member = tuple[str, Callable[[], BinaryIO]]


@contextmanager
def _open_members(path: str, max_bytes: int) -> Iterator[Iterator[Member]]:
    """Name and opener of each regular file, in the order of the archive, which is read once."""
    size = osp.getsize(path)
    with open(path, 'rb') as raw, ProgressLine(f'unpacking {osp.basename(path)}', size, in_bytes=True) as progress:
        zipped = raw.read(2) == b'PK'
        raw.seek(0)
        if zipped:
            with zipfile.ZipFile(raw) as archive:
                yield _noting(raw, progress, _zip_members(archive, path, max_bytes))
        else:
            with tarfile.open(fileobj=raw, tarinfo=checked_headers(path)) as archive:
                yield _noting(raw, progress, _tar_members(archive, path, max_bytes))


def _noting(raw: BinaryIO, progress: ProgressLine, members: Iterator[Member]) -> Iterator[Member]:
    for member in members:
        progress.set(raw.tell())
        yield member


def _zip_members(archive: zipfile.ZipFile, path: str, max_bytes: int) -> Iterator[Member]:
    total = 0
    for info in archive.infolist():
        # A member yields no more bytes than its entry says.
        total = _within(path, total + info.file_size, max_bytes)
        # The upper half has the file's mode on Unix.
        if not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16):
            yield info.filename, lambda info=info: archive.open(info)


def _tar_members(archive: tarfile.TarFile, path: str, max_bytes: int) -> Iterator[Member]:
    total = 0
    for info in archive:
        if info.issparse():
            raise ArchiveError(f'{osp.abspath(path)} holds the sparse file {info.name!r}: do not use this archive')
        total = _within(path, total + info.size, max_bytes)
        if info.isreg():
            yield info.name, lambda info=info: archive.extractfile(info)
    # tarfile stops at the mark of the end, in front of the checksum of a compressed archive.
    while chunk := archive.fileobj.read(_CHUNK):
        total = _within(path, total + len(chunk), max_bytes)


def _within(path: str, total: int, max_bytes: int) -> int:
    if total > max_bytes:
        raise ArchiveError(
            f'{osp.abspath(path)} unpacks to {total:,} bytes or more, the limit is {max_bytes:,}: do not use this '
            'archive, or raise the limit'
        )
    return total


def checked_headers(path: str) -> type[tarfile.TarInfo]:
    """Entries of one tar archive, whose extended headers have limits."""

    class CheckedInfo(tarfile.TarInfo):
        squared = 0

        @classmethod
        def frombuf(cls, *args, **kwargs) -> tarfile.TarInfo:
            info = super().frombuf(*args, **kwargs)
            if info.size < 0:
                # tarfile would step back, and read the same entry for ever.
                raise ArchiveError(f'{osp.abspath(path)} has an entry of {info.size} bytes: do not use this archive')
            if info.type in _HEADER_TYPES:
                CheckedInfo.squared += info.size**2
                if info.size > _MAX_HEADER_BYTES:
                    raise ArchiveError(
                        f'{osp.abspath(path)} has an extended header of {info.size:,} bytes, the limit is '
                        f'{_MAX_HEADER_BYTES:,}: do not use this archive'
                    )
                if CheckedInfo.squared > _MAX_SQUARED_HEADER_BYTES:
                    raise ArchiveError(
                        f'the squared lengths of the extended headers of {osp.abspath(path)} sum up to more than '
                        f'{_MAX_SQUARED_HEADER_BYTES:,}: do not use this archive'
                    )
            return info

    return CheckedInfo


def checked_parts(path: str, name: str) -> tuple[str, ...]:
    """Folders and file of an entry, which must stay inside, on every system."""
    parts = PurePosixPath(name).parts
    # On Windows a backslash parts folders, and a drive leaves the folder it is in.
    if name.startswith('/') or '..' in parts or '\\' in name or any(PureWindowsPath(part).drive for part in parts):
        raise ArchiveError(
            f'{osp.abspath(path)} holds the entry {name!r}, which points outside or has a backslash or a drive: do not '
            'use this archive'
        )
    return parts


def _below(parts: tuple[str, ...], folder: str) -> tuple[str, ...]:
    """``parts`` relative to ``folder``; nothing if it lies elsewhere."""
    top = PurePosixPath(folder).parts
    return parts[len(top) :] if parts[: len(top)] == top else ()
