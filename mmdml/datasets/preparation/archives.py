"""Official archives: fetch them, check them, lay them out.

An archive is hostile until it is proven otherwise: only regular files are written, under names that stay inside the
target, and nothing is at the target before everything is.
"""

import hashlib
import os
import os.path as osp
import re
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO
from zlib import error as ZlibError

from mmdml.utils.progress import ProgressLine

_CHUNK = 1 << 20
# What the unpackers raise for a file that is cut, damaged, encrypted or no archive at all.
_UNPACK_ERRORS = (tarfile.TarError, zipfile.BadZipFile, ZlibError, LZMAError, EOFError, OSError, RuntimeError)


class ArchiveError(RuntimeError):
    """An archive that cannot be had, is not the right one, or cannot be laid out; says what to do."""


@dataclass(frozen=True)
class OfficialFile:
    """A file as the authors of a data set distribute it.

    Attributes:
        name: path in the distribution, e.g. ``'Img/img.zip'``.
        to: for an archive, the folder of the tree that its content goes to; else the path of the file in the tree.
        folder: for an archive, the folder inside it whose content is taken, ``''`` for all; None for a plain file.
        address: direct address, ``''`` if there is none.
        checksum: ``'sha256:...'`` or ``'md5:...'``, ``''`` if none is known for certain.
    """

    name: str
    to: str = ''
    folder: str | None = None
    address: str = ''
    checksum: str = ''


# ---- fetch -----------------------------------------------------------------------------------------------------------


def download(address: str, path: str, instead: str, archive: bool = True) -> None:
    """Fetch a file; ``path.part`` holds what has come so far, and a later call goes on from there.

    Args:
        address: of the file.
        path: where it goes once it is complete.
        instead: what the message on a failure says about getting it in another way.
        archive: refuse a web page. Servers send other files under wrong types.

    Raises:
        ArchiveError: no connection, an answer that is not the file, or a connection that broke off.
    """
    part = path + '.part'
    os.makedirs(osp.dirname(osp.abspath(path)), exist_ok=True)
    done = osp.getsize(part) if osp.exists(part) else 0
    print(f'downloading {address} to {path}')
    try:
        total = _fetch(address, part, done, archive)
    except (urllib.error.URLError, HTTPException, OSError, ValueError) as error:
        raise ArchiveError(f'cannot download {address}: {error}\n{instead}') from error
    if total is not None and osp.getsize(part) != total:
        raise ArchiveError(
            f'the connection to {address} ended after {osp.getsize(part):,} of {total:,} bytes; run this again to go '
            f'on from there\n{instead}'
        )
    os.replace(part, path)


def _fetch(address: str, part: str, done: int, archive: bool) -> int | None:
    """Append to ``part``, which has ``done`` bytes; the size of the whole file, None if the server does not say."""
    # Without this header some servers send a .tar.gz as a compressed .tar.
    headers = {'Accept-Encoding': 'identity', **({'Range': f'bytes={done}-'} if done else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not done:
            raise
        # Nothing is left to send: all is here, or what is here belongs to another file.
        if _total_size(error.headers.get('Content-Range')) == done:
            return done
        return _fetch(address, part, 0, archive)
    with response:
        start, total = _start_and_total(response, done)
        # Login pages of networks and error pages of servers come with a status that says that all is well.
        if response.headers.get_content_type() == 'text/html' and (archive or start < done):
            raise ValueError(f'the answer is a web page, {response.url}')
        if start < done and total is not None and total < done:
            raise ValueError(f'the answer has {total:,} bytes, {part} has {done:,} already; remove it to begin again')
        with open(part, 'ab' if start else 'wb') as file, _progress(osp.basename(part), total, start) as progress:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                progress.add(len(chunk))
    return total


def _start_and_total(response: HTTPResponse, asked: int) -> tuple[int, int | None]:
    """Byte that the answer begins with, and the size of the whole file."""
    # 206: the server goes on where we stopped; anything else sends the file from its beginning.
    if getattr(response, 'status', None) != 206:
        length = response.headers.get('Content-Length')
        return 0, int(length) if length else None
    content_range = response.headers.get('Content-Range')
    if content_range and not content_range.startswith(f'bytes {asked}-'):
        raise ValueError(f'asked for bytes from {asked}, got Content-Range {content_range!r}')
    return asked, _total_size(content_range)


def _total_size(content_range: str | None) -> int | None:
    """``1000`` of ``bytes 0-99/1000``."""
    found = re.search(r'/(\d+)$', content_range or '')
    return int(found[1]) if found else None


def _progress(name: str, total: int | None, done: int = 0) -> ProgressLine:
    return ProgressLine(name, total, done, in_bytes=True)


def check_checksum(path: str, expected: str) -> None:
    """Compare a file with its official checksum.

    Args:
        path: the file.
        expected: ``'sha256:...'`` or ``'md5:...'``.

    Raises:
        ArchiveError: the file has another one.
    """
    algorithm, _, digest = expected.partition(':')
    found = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, 'rb') as file, _progress(f'checking {osp.basename(path)}', osp.getsize(path)) as progress:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
            progress.add(len(chunk))
    if found.hexdigest() != digest:
        raise ArchiveError(
            f'{osp.abspath(path)} is not the official file: its {algorithm} is {found.hexdigest()}, expected {digest}. '
            'Remove it to get it again'
        )


# ---- lay out ---------------------------------------------------------------------------------------------------------


def lay_out(parts: Sequence[tuple[OfficialFile, str]], target: str, check: Callable[[str], None]) -> None:
    """Unpack files beside ``target``, check the tree, and only then move it there.

    Args:
        parts: official files, and where each is on this machine.
        target: folder to make.
        check: is called with the folder of the whole tree and raises if something is wrong with it.

    Raises:
        ArchiveError: ``target`` is there or holds one of the files, or a file cannot be unpacked.
    """
    require_absent(target, [path for _, path in parts])
    target = osp.abspath(target)
    staging = target + '.unpacking'
    shutil.rmtree(staging, ignore_errors=True)
    try:
        os.makedirs(staging)
        for file, path in parts:
            place = osp.join(staging, file.to)
            if file.folder is None:
                os.makedirs(osp.dirname(place), exist_ok=True)
                shutil.copyfile(path, place)
            else:
                unpack(path, file.folder, place)
        check(staging)
        os.replace(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def require_absent(target: str, sources: Sequence[str]) -> None:
    """Refuse to write over what is there.

    Args:
        target: folder to make.
        sources: files to make it from, which must lie elsewhere: nobody should be told to remove them.

    Raises:
        ArchiveError: ``target`` is there, or a source lies in it.
    """
    folder = Path(osp.realpath(target))
    for path in sources:
        if Path(osp.realpath(path)).is_relative_to(folder):
            raise ArchiveError(
                f'{osp.abspath(path)} is a place in the target folder {osp.abspath(target)}: choose another target '
                'folder'
            )
    if osp.lexists(target):
        raise ArchiveError(f'{osp.abspath(target)} is there already; remove it first to unpack again')


def unpack(path: str, folder: str, target: str) -> None:
    """Write the regular files below ``folder`` of a tar or zip archive to ``target``; links and devices are left out.

    Args:
        path: the archive; tar with any compression, or zip.
        folder: inside the archive; ``''`` takes everything.
        target: is made if it is not there.

    Raises:
        ArchiveError: no such folder, an entry that points outside, or an archive that cannot be read.
    """
    made, seen = set(), set()
    try:
        with _open_members(path) as members:
            for name, source in members:
                parts = _checked_parts(path, name)
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
def _open_members(path: str) -> Iterator[Iterator[Member]]:
    """Name and opener of each regular file, in the order of the archive, which is read once."""
    with open(path, 'rb') as raw, _progress(f'unpacking {osp.basename(path)}', osp.getsize(path)) as progress:
        zipped = raw.read(2) == b'PK'
        raw.seek(0)
        if zipped:
            with zipfile.ZipFile(raw) as archive:
                yield _noting(raw, progress, _zip_members(archive))
        else:
            with tarfile.open(fileobj=raw) as archive:
                yield _noting(raw, progress, _tar_members(archive))


def _noting(raw: BinaryIO, progress: ProgressLine, members: Iterator[Member]) -> Iterator[Member]:
    for member in members:
        progress.set(raw.tell())
        yield member


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        # The upper half has the file's mode on Unix.
        if not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16):
            yield info.filename, lambda info=info: archive.open(info)


def _tar_members(archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        if info.isreg():
            yield info.name, lambda info=info: archive.extractfile(info)


def _checked_parts(path: str, name: str) -> tuple[str, ...]:
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
