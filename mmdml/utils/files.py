"""Files that are whole or not there: written beside, flushed to the disk, and renamed."""

import os
import socket
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def replaced_when_whole(path: str | Path, leftovers: bool = True) -> Iterator[Path]:
    """Give a path beside ``path`` to write to, and rename it to ``path`` at the end of the block.

    A reader, a kill or a power cut sees the old file or the new one, never half of it. If the block raises, ``path``
    stays as it was and nothing is left beside it. What earlier writers of the same file left when they were killed is
    removed.

    Args:
        path: the file to replace or create; its folder must exist. A link is followed.
        leftovers: look for those of earlier writers, which reads the whole folder.

    Raises:
        FileExistsError: if there is a device, a pipe or the like.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replaced_when_whole(folder / 'a.txt') as beside:
        ...     _ = beside.write_text('whole')
        >>> [file.name for file in folder.iterdir()]
        ['a.txt']
    """
    target = Path(os.path.realpath(path))
    _require_replaceable(target)
    beside = target.with_name(f'.{target.name}.{_HERE}-{os.getpid()}.tmp')
    if leftovers:
        remove_leftovers(target.parent, target.name)
    try:
        yield beside
        _flush(beside)
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _flush(target.parent)


@contextmanager
def write_atomically(path: str | Path, mode: str = 'wb', leftovers: bool = True, **options: Any) -> Iterator[IO]:
    """Open a file for writing that replaces ``path`` when the block ends, see :func:`replaced_when_whole`.

    Args:
        path: the file to replace or create.
        mode: ``'w'`` or ``'wb'``.
        leftovers: as :func:`replaced_when_whole` takes it.
        options: more arguments of ``open``, e.g. ``encoding`` and ``newline``.

    Raises:
        OSError: naming ``path``, e.g. on a full disk; the old file is untouched.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / 'table.csv'
        >>> with write_atomically(path, 'w', encoding='utf-8') as file:
        ...     _ = file.write('label,path')
        >>> path.read_text()
        'label,path'
    """
    beside = None
    try:
        with replaced_when_whole(path, leftovers) as beside, open(beside, mode, **options) as file:
            yield file
    except OSError as error:
        if error.errno is None or error.filename not in (None, beside, os.fspath(beside or '')):
            raise  # about another file
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def prepare_output(path: str, endings: Sequence[str] = (), inputs: Iterable[str] = ()) -> str:
    """Check that a file can be written later, and make its folder.

    Args:
        path: of the file.
        endings: what its name may end with, such as '.npz'; none: anything.
        inputs: files that are read; the output must be none of them.

    Returns:
        The path.

    Raises:
        ValueError: if the name ends otherwise, or the file is one of the inputs.
        OSError: if there is a folder, a device or a pipe of that name, or the place cannot be written to.
    """
    if endings and not path.lower().endswith(tuple(endings)):
        raise ValueError(f'the output file must end with {" or ".join(endings)}, got {path!r}')
    if os.path.isdir(path):
        raise IsADirectoryError(f'the output {os.path.abspath(path)} is a folder; name a file')
    _require_replaceable(path)
    if os.path.exists(path) and any(os.path.exists(each) and os.path.samefile(path, each) for each in inputs):
        raise ValueError(f'the output {os.path.abspath(path)} is a file that is read; name another one')
    folder = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise OSError(f'the folder of the output {os.path.abspath(path)} cannot be made: {error.strerror}') from error
    if not os.access(folder, os.W_OK | os.X_OK) or (os.path.exists(path) and not os.access(path, os.W_OK)):
        raise PermissionError(f'the output {os.path.abspath(path)} cannot be written: no permission')
    try:  # permissions are not all that a place may lack
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f'the output {os.path.abspath(path)} cannot be written: {error.strerror}') from error
    return path


def require_distinct(outputs: Mapping[str, str]) -> None:
    """Check that no two outputs are one file, of which the later one would be left.

    Args:
        outputs: paths of files, which need not be there yet, by the option that names each.

    Raises:
        ValueError: two are, also through links; names their options.
    """
    options: dict[str, str] = {}
    for option, path in outputs.items():
        other = options.setdefault(os.path.realpath(path), option)
        if other != option:
            raise ValueError(f'{other} and {option} are one file, {os.path.abspath(path)}; name another one for either')


def remove_leftovers(folder: str | Path, name: str | None = None) -> list[str]:
    """Remove what writers of :func:`replaced_when_whole` left when they were killed, and return the names.

    Only files of processes of this machine that are no longer alive are removed.

    Args:
        folder: where to look; not below it.
        name: of the file that was being written. Default: any.
    """
    removed = []
    for file in sorted(Path(folder).glob(f'.*.{_HERE}-*.tmp')):
        written, _, writer = file.name[1 : -len('.tmp')].rpartition(f'.{_HERE}-')
        if writer.isdecimal() and name in (None, written) and not _is_alive(int(writer)):
            file.unlink(missing_ok=True)
            removed.append(file.name)
    return removed


# A process number means something on one machine only.
_HERE = ''.join(letter if letter.isalnum() else '_' for letter in socket.gethostname())[:40]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _require_replaceable(path: str | Path) -> None:
    """Refuse what a rename would put a plain file in the place of: devices, pipes and sockets are for all programs."""
    if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
        raise FileExistsError(f'the output {os.path.abspath(path)} is no regular file; name another one')


def _flush(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
