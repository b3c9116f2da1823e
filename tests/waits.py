"""Where the host would wait for a device, found on a machine without one.

Two modes of torch watch every operator and every method of a tensor: what gives the host a value of a tensor, or a
shape that depends on values, waits on any device. Copies between host and device are seen on a device only: the same
tests run on the pretended one.
"""

import traceback
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mmdml

ROOT = Path(mmdml.__file__).parent
#: Operators whose result, or its shape, the host has to know: .item(), int(), bool(), nonzero(), unique(), equal().
OPERATORS = {
    '_local_scalar_dense',
    'equal',
    'masked_select',
    'nonzero',
    'unique_consecutive',
    'unique_dim',
    '_unique2',
}
#: Without an output size, these have to know the sum of the repeats, and the largest number.
SIZES = {'repeat_interleave', 'bincount'}
#: Methods that read memory, which no operator shows.
METHODS = {'numpy', 'tolist', '__array__'}
COPIES = {'_to_copy', 'copy_'}


def is_here(tensor: Tensor) -> bool:
    return tensor.device.type == 'cpu'


class Waits:
    """Context in which places that wait are found.

    Args:
        device: that the work is on.
        whole: functions that are one place with all that they call.

    Attributes:
        places: ``(file, function)`` below ``mmdml/`` -> lines that wait, and for what. What torch's optimizers read is
            left out: their step numbers lie on the host.
    """

    def __init__(self, device: str = 'cpu', whole: Collection[tuple[str, str]] = ()) -> None:
        self.whole = whole
        self.places: dict[tuple[str, str], set[str]] = {}
        self.on_host = torch.device(device).type == 'cpu'
        self._modes = (_Operators(self), _Methods(self))

    def __enter__(self) -> 'Waits':
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    def found(self, tensors: list[Tensor], name: str) -> None:
        """Note who called, unless nothing but tensors of the host is read while the work is on a device."""
        if not self.on_host and all(map(is_here, tensors)):
            return
        frames = traceback.extract_stack()
        own = [frame for frame in frames if Path(frame.filename).is_relative_to(ROOT)]
        if own and not any('/torch/optim/' in frame.filename for frame in frames):
            places = [(Path(frame.filename).relative_to(ROOT).as_posix(), frame.name) for frame in own]
            place = next((place for place in places if place in self.whole), places[-1])
            self.places.setdefault(place, set()).add(f'{own[-1].line}  # {name}')


class _Operators(TorchDispatchMode):
    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        # As an index, a mask is turned into a list of places.
        masked = name.startswith(('index', '_index', '_unsafe_index')) and any(
            isinstance(leaf, Tensor) and leaf.dtype == torch.bool
            for arg in args[1:2]
            if isinstance(arg, (list, tuple))
            for leaf in arg
        )
        sized = name in SIZES and kwargs.get('output_size') is None
        result = function(*args, **kwargs)
        if masked or sized or name in OPERATORS:
            self.waits.found(tensors, name)
        elif name in COPIES:
            source, target = (args[1], args[0]) if name == 'copy_' else (args[0], result)
            non_blocking = kwargs.get('non_blocking', name == 'copy_' and len(args) > 2 and args[2])
            # Small copies to the device leave at once; from the device, a value that was not waited for is not there.
            if is_here(source) != is_here(target) and not (non_blocking and is_here(source)):
                self.waits.found([source, target], name)
        return result


class _Methods(TorchFunctionMode):
    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, '__name__', '') in METHODS and args and isinstance(args[0], Tensor):
            self.waits.found([args[0]], function.__name__)
        return function(*args, **(kwargs or {}))
