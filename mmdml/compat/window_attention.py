"""Lets the windows of mmpretrain's Swin be exported for batches of any size."""

from types import ModuleType
from typing import TYPE_CHECKING

from mmdml.compat.import_hooks import Callback

if TYPE_CHECKING:
    from torch import Tensor


def count_pictures_by_whole_numbers(*owners: str) -> Callback:
    """Return a function that mends ``window_reverse`` of classes of a module, right after its import.

    mmpretrain divides the number of windows by a float and rounds it, which fixes the size of the batch in a program
    that torch.export traces.

    Args:
        owners: names of the classes.
    """

    def mend(module: ModuleType) -> None:
        for owner in owners:
            getattr(module, owner).window_reverse = staticmethod(_window_reverse)

    return mend


def _window_reverse(windows: 'Tensor', H: int, W: int, window_size: int) -> 'Tensor':
    rows, columns = H // window_size, W // window_size
    grid = windows.unflatten(0, (windows.shape[0] // (rows * columns), rows, columns))
    return grid.transpose(2, 3).reshape(-1, H, W, windows.shape[-1])
