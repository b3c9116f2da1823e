"""Where each image lies in tar files: the table that ``TarShards`` reads."""

import json
import os
import os.path as osp
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from mmdml.datasets.preparation.archives import ArchiveError, checked_headers, checked_parts
from mmdml.datasets.tar_shards import SHARD_SIZES, TABLE_COLUMNS
from mmdml.utils.files import replaced_when_whole
from mmdml.utils.image_files import is_image_name
from mmdml.utils.names import printable
from mmdml.utils.progress import ProgressLine

_CHUNK = 1 << 20
_BLOCK = tarfile.BLOCKSIZE

#: A row of the table: shard, path, label, offset, size, crc32.
Row = tuple[str, str, str, int, int, int]


def write_shard_table(folder: str, target: str, label: str = 'folder') -> tuple[list[Row], list[str]]:
    """Read all tar files of a folder to their ends and write where their images lie.

    Names of files and folders that begin with a dot are skipped, as in a folder of images: macOS puts a ``._x.jpg``,
    which is no image, beside each ``x.jpg``.

    Args:
        folder: with ``.tar`` files, in it or below.
        target: table to write, ``.parquet``.
        label: where the label of an image is. ``'folder'``: the folder it is in, inside the tar; ``'cls'``: the file
            with its name and the ending ``.cls``, as WebDataset has it; ``'json:FIELD'``: a field of the file that ends
            in ``.json``.

    Returns:
        The rows of the table, by shard and place, and the images that were skipped, as ``shard/path``.

    Raises:
        ArchiveError: no tar file, one that is compressed, cut or damaged, or one with a name that leads outside, a name
            twice, an empty image, or one without a label.
        ValueError: ``label`` is none of these.
    """
    import pyarrow
    import pyarrow.parquet

    label_of = _reader_of(label)
    shards = sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob('*.tar') if path.is_file())
    for shard in shards:
        if shard.splitlines() != [shard] or not _is_text(shard):
            raise ArchiveError(
                f'the name of the shard {printable(shard)!r} is not in UTF-8 or has a line break: rename it'
            )
    if not shards:
        raise ArchiveError(f'{osp.abspath(folder)} holds no .tar file')
    sizes = {shard: osp.getsize(osp.join(folder, shard)) for shard in shards}
    rows: list[Row] = []
    skipped: list[str] = []
    with ProgressLine('reading shards', sum(sizes.values()), in_bytes=True) as progress:
        for number, shard in enumerate(shards):
            rows += _rows_of(folder, shard, label_of, skipped)
            progress.set(sum(list(sizes.values())[: number + 1]))
    if not rows:
        raise ArchiveError(f'the {len(shards)} tar files of {osp.abspath(folder)} hold no image')
    columns = dict(zip(TABLE_COLUMNS, zip(*rows, strict=True), strict=True))
    table = pyarrow.table({name: list(values) for name, values in columns.items()})
    lines = '\n'.join(f'{shard}\t{size}' for shard, size in sizes.items())
    os.makedirs(osp.dirname(osp.abspath(target)), exist_ok=True)
    with replaced_when_whole(target) as beside:
        pyarrow.parquet.write_table(table.replace_schema_metadata({SHARD_SIZES: lines}), beside)
    return rows, skipped


def _rows_of(folder: str, shard: str, label_of: Callable, skipped: list[str]) -> Iterator[Row]:
    path = osp.join(folder, shard)
    members = _members(path)
    try:
        with open(path, 'rb') as file:
            for name, (offset, size) in members.items():
                if not is_image_name(name):
                    continue
                if any(part[0] == '.' for part in PurePosixPath(name).parts):
                    skipped.append(f'{shard}/{name}')
                    continue
                if size == 0:
                    raise ArchiveError(f'{osp.abspath(path)}: the image {printable(name)!r} is empty; write it again')
                yield shard, name, label_of(path, name, members), offset, size, _crc32(file, offset, size)
    except OSError as error:
        raise ArchiveError(f'cannot read {osp.abspath(path)}: {error}') from error


def _members(path: str) -> dict[str, tuple[int, int]]:
    """Offset and size of each regular file of a tar."""
    where, size, found = osp.abspath(path), osp.getsize(path), {}
    end = 0
    try:
        # 'r:' takes plain tar files alone: a compressed one has no offsets.
        with tarfile.open(path, 'r:', tarinfo=checked_headers(path)) as archive:
            for info in archive:
                checked_parts(path, info.name)
                end = max(end, info.offset_data + -(-info.size // _BLOCK) * _BLOCK if info.isreg() else archive.offset)
                if info.issparse():
                    raise ArchiveError(f'{where} holds the sparse file {info.name!r}: do not use this archive')
                if not info.isreg():
                    if is_image_name(info.name) and not info.isdir():
                        raise ArchiveError(
                            f'{where}: {printable(info.name)!r} is a link or no file: write it as a file'
                        )
                    continue
                if not _is_text(info.name):
                    raise ArchiveError(f'{where}: the name {printable(info.name)!r} is not in UTF-8')
                if info.name in found:
                    raise ArchiveError(f'{where} holds {printable(info.name)!r} twice: which one is meant is not clear')
                found[info.name] = (info.offset_data, info.size)
                if info.offset_data + info.size > size:
                    break
    except tarfile.TarError as error:
        with open(path, 'rb') as file:
            kind = 'is compressed: unpack it to a plain .tar first' if _is_compressed(file.read(6)) else str(error)
        raise ArchiveError(f'{where}: {kind}') from error
    # A whole archive ends with a block of zeros.
    if end + _BLOCK > size or not _is_zero(path, end):
        raise ArchiveError(
            f'{where} is cut or damaged behind byte {min(end, size):,}, or holds a second archive there; get it again'
        )
    return found


def _is_compressed(head: bytes) -> bool:
    return head.startswith((b'\x1f\x8b', b'BZh', b'\xfd7zXZ\x00', b'\x28\xb5\x2f\xfd'))


def _is_text(name: str) -> bool:
    return not any('\ud800' <= letter <= '\udfff' for letter in name)


def _is_zero(path: str, offset: int) -> bool:
    """Whether nothing but zeros is left: behind the end of one archive may stand another, by ``cat a.tar b.tar``."""
    with open(path, 'rb') as file:
        file.seek(offset)
        return all(part.count(0) == len(part) for part in iter(lambda: file.read(_CHUNK), b''))


def _crc32(file, offset: int, size: int) -> int:
    file.seek(offset)
    value = 0
    while size > 0 and (data := file.read(min(size, _CHUNK))):
        value, size = zlib.crc32(data, value), size - len(data)
    return value


def _reader_of(label: str) -> Callable[[str, str, dict[str, tuple[int, int]]], str]:
    kind, _, field = label.partition(':')
    if kind == 'json' and field:
        return lambda path, name, members: _json_label(path, name, members, field)
    readers = {'folder': _folder_label, 'cls': _cls_label}
    if label not in readers:
        raise ValueError(f"label must be 'folder', 'cls' or 'json:FIELD', got {label!r}")
    return readers[label]


def _folder_label(path: str, name: str, members: dict[str, tuple[int, int]]) -> str:
    parts = PurePosixPath(name).parts
    if len(parts) < 2:
        raise ArchiveError(f'{osp.abspath(path)}: {printable(name)!r} is in no folder; where is its label? See --label')
    return parts[-2]


def _cls_label(path: str, name: str, members: dict[str, tuple[int, int]]) -> str:
    try:
        return _not_empty(_beside(path, name, members, '.cls').decode('utf-8-sig').strip())
    except ValueError as error:
        raise ArchiveError(f'{osp.abspath(path)}: the .cls of {printable(name)!r} holds no label') from error


def _json_label(path: str, name: str, members: dict[str, tuple[int, int]], field: str) -> str:
    try:
        value = json.loads(_beside(path, name, members, '.json'))[field]
        if value is None or isinstance(value, list | dict):
            raise ValueError(f'{value!r} is no label')
        return _not_empty(str(value).strip())
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArchiveError(f'{osp.abspath(path)}: the .json of {printable(name)!r} has no label {field!r}') from error


def _not_empty(label: str) -> str:
    if not label or not _is_text(label):
        raise ValueError('no label')
    return label


def _beside(path: str, name: str, members: dict[str, tuple[int, int]], suffix: str) -> bytes:
    """Read the small file that has the name of an image up to its first dot, and this ending."""
    folder, _, own = name.rpartition('/')
    key = f'{folder}/{own.partition(".")[0]}' if folder else own.partition('.')[0]
    if key + suffix not in members:
        raise ArchiveError(f'{osp.abspath(path)} holds {printable(name)!r} without {printable(key + suffix)!r}')
    offset, size = members[key + suffix]
    with open(path, 'rb') as file:
        file.seek(offset)
        return file.read(min(size, _CHUNK))
