"""Files that a command writes at its end: checked at its beginning, and written whole or not at all."""

import os
import os.path as osp
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def prepare_output(path: str, endings: Sequence[str] = ()) -> str:
    """Check that a file can be written later, and make its folder.

    Args:
        path: of the file.
        endings: what its name may end with, such as '.npz'; none: anything.

    Returns:
        The path.

    Raises:
        ValueError: if the name ends otherwise.
        OSError: if there is a folder of that name, or the place cannot be written to.
    """
    if endings and not path.lower().endswith(tuple(endings)):
        raise ValueError(f'the output file must end with {" or ".join(endings)}, got {path!r}')
    if osp.isdir(path):
        raise IsADirectoryError(f'the output {osp.abspath(path)} is a folder; name a file')
    folder = osp.dirname(osp.abspath(path))
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise OSError(f'the folder of the output {osp.abspath(path)} cannot be made: {error.strerror}') from error
    if not os.access(folder, os.W_OK | os.X_OK) or (osp.exists(path) and not os.access(path, os.W_OK)):
        raise PermissionError(f'the output {osp.abspath(path)} cannot be written: no permission')
    return path


@contextmanager
def written_whole(path: str) -> Iterator[str]:
    """A name beside ``path`` to write to; it takes the place of ``path`` at the end, and goes if the block raises.

    The name ends as ``path`` does.
    """
    folder, name = osp.split(path)
    beside = osp.join(folder, f'.{os.getpid()}.{name}')
    try:
        yield beside
        os.replace(beside, path)
    finally:
        if osp.exists(beside):
            os.remove(beside)
