"""Downloading official files, and checking their checksums."""

import errno
import hashlib
import os
import os.path as osp
import re
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse

from mmdml.datasets.preparation.archives import ArchiveError
from mmdml.utils.progress import ProgressLine

_CHUNK = 1 << 20


def download(address: str, path: str, instead: str, archive: bool = True) -> None:
    """Fetch a file; ``path.part`` holds what has come so far, and a later call continues there.

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
        if getattr(error, 'errno', None) in (errno.ENOSPC, errno.EDQUOT) and osp.exists(part):
            # A full disk is needed for other things than half an archive.
            os.remove(part)
            error = f'{error}; the part that had come, {part}, is removed'
        raise ArchiveError(f'cannot download {address}: {error}\n{instead}') from None
    if total is not None and osp.getsize(part) != total:
        raise ArchiveError(
            f'the connection to {address} ended after {osp.getsize(part):,} of {total:,} bytes; run this again to '
            f'continue there\n{instead}'
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
        with (
            open(part, 'ab' if start else 'wb') as file,
            ProgressLine(osp.basename(part), total, start, in_bytes=True) as progress,
        ):
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                progress.add(len(chunk))
    return total


def _start_and_total(response: HTTPResponse, asked: int) -> tuple[int, int | None]:
    """Byte that the answer begins with, and the size of the whole file."""
    # 206: the server continues where we stopped; anything else sends the file from its beginning.
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
    with (
        open(path, 'rb') as file,
        ProgressLine(f'checking {osp.basename(path)}', osp.getsize(path), in_bytes=True) as progress,
    ):
        while chunk := file.read(_CHUNK):
            found.update(chunk)
            progress.add(len(chunk))
    if found.hexdigest() != digest:
        raise ArchiveError(
            f'{osp.abspath(path)} is not the official file: its {algorithm} is {found.hexdigest()}, expected {digest}. '
            'Remove it to get it again'
        )
