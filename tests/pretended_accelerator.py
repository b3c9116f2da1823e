"""An accelerator that is none, to find on a machine without one what would fail on a machine that has one.

    PYTHONPATH=tests pytest -p pretended_accelerator tests/test_engine

runs tests with ``pretended`` as the device of every run. Its tensors hold tensors of the host, so that every figure is
that of the host, bit for bit. But as on CUDA, they mix with no tensor of the host but a single number or an index, take
no generator of the host, and do not become NumPy arrays.

Not shown are kernels, rounding, memory, waits for the device, branches that only ``cuda`` takes, what a test runs in a
process of its own, and that ``torch.load`` without ``map_location`` gives tensors of the device back as such.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _DummyDeviceGuard,
    _DummyPrivateUse1Hook,
    _setup_privateuseone_for_python_backend,
)

NAME = 'pretended'
aten = torch.ops.aten
#: Operators that bring a tensor from one device to another.
MOVING = {aten._to_copy.default, aten.copy_.default}
#: Into a tensor of its own CUDA takes indices of the host, and of its values a single number.
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
#: Operators that take not even a single number of the host.
STRICT = {
    getattr(aten, name)
    for name in (
        'embedding gather index_select cat stack mm addmm bmm equal scatter scatter_ scatter_add scatter_add_ '
        'index_add index_add_ index_copy index_copy_'
    ).split()
}


class BackendModule(_DummyBackendModule):
    """What ``torch.pretended`` has to have for autocast."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def get_autocast_dtype(self) -> torch.dtype:
        return torch.bfloat16


_setup_privateuseone_for_python_backend(NAME, BackendModule(), _DummyPrivateUse1Hook(), _DummyDeviceGuard())
DEVICE = torch.device(NAME, 0)


def is_pretended(device: Any) -> bool:
    """Whether it names this device."""
    return device is not None and torch.device(device).type == NAME


class PretendedTensor(Tensor):
    """A tensor of the device, which holds one of the host."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> 'PretendedTensor':
        layout = dict(strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype)
        made = Tensor._make_wrapper_subclass(cls, held.size(), device=DEVICE, **layout)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return call(function, args, kwargs or {})

    def numpy(self, *_: Any, **__: Any) -> None:
        raise TypeError(f"can't convert a tensor of {DEVICE} to numpy; use Tensor.cpu() first")

    __array__ = numpy

    # What torch does in C++ for tensors of its own devices, and refuses for a subclass.
    def tolist(self) -> list:
        return self.cpu().tolist()

    def new_tensor(self, data: Any, dtype: torch.dtype | None = None, device: Any = DEVICE, **kwargs: Any) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=device, **kwargs)

    def __repr__(self, **_: Any) -> str:
        return f'{self.held!r}@{NAME}'

    def __format__(self, spec: str) -> str:
        return format(self.item() if self.dim() == 0 else self.held, spec)

    def __reduce_ex__(self, protocol: int) -> Any:
        return self.held.__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict) -> Tensor:
        if id(self) not in memo:
            copy = PretendedTensor(self.held.detach().clone())
            is_parameter = isinstance(self, torch.nn.Parameter)
            memo[id(self)] = (
                torch.nn.Parameter(copy, self.requires_grad)
                if is_parameter
                else copy.requires_grad_(self.requires_grad)
            )
        return memo[id(self)]


def refuse_mixing(function: Any, args: tuple, there: list[Tensor], here: list[Tensor]) -> None:
    """As CUDA does.

    Raises:
        RuntimeError: if tensors of both places come together.
    """
    packet = function.overloadpacket
    first_is_here = isinstance(args[0], Tensor) and not isinstance(args[0], PretendedTensor)
    written = function._schema.arguments[0].alias_info
    if packet in INDEXING:
        values = [] if packet is aten.index else args[2:3]
        refused = first_is_here or any(x.dim() and not isinstance(x, PretendedTensor) for x in values)
    elif first_is_here and written is not None and written.is_write:
        refused = True
    else:
        refused = packet in STRICT or any(x.dim() for x in here)
    if refused:
        raise RuntimeError(f'all tensors must be on one device, found {DEVICE} and cpu: {function}')


def call(function: Any, args: tuple, kwargs: dict) -> Any:
    """Do it on the host; the result is where the arguments are, or where it was asked for."""
    flat, spec = tree_flatten((args, kwargs))
    there = [x for x in flat if isinstance(x, PretendedTensor)]
    here = [x for x in flat if isinstance(x, Tensor) and not isinstance(x, PretendedTensor)]
    if there and here and function not in MOVING:
        refuse_mixing(function, args, there, here)
    asked = kwargs.get('device')
    stays = is_pretended(asked) if asked is not None else bool(there)
    for generator in (x for x in flat if isinstance(x, torch.Generator)):
        if (generator._cdata in GeneratorType.of_device) != stays:
            raise RuntimeError(f'the generator and the result must be on one device: {function}')

    on_host = [x.held if isinstance(x, PretendedTensor) else x for x in flat]
    on_host = [torch.device('cpu') if isinstance(x, torch.device) and x.type == NAME else x for x in on_host]
    host_args, host_kwargs = tree_unflatten(on_host, spec)
    found = function(*host_args, **{key: value for key, value in host_kwargs.items() if key != 'pin_memory'})
    if function is aten.topk.default and args[4:] == (False,):
        # Promised is no order; the host has the lowest last.
        found = type(found)(part.flip(args[2]) for part in found)

    written = function._schema.arguments[0].alias_info if function._schema.arguments else None
    if written is not None and written.is_write and isinstance(args[0], Tensor):
        if isinstance(args[0], PretendedTensor) and args[0].shape != args[0].held.shape:
            raise NotImplementedError(f'a tensor of {DEVICE} keeps its shape: {function}')
        return args[0]
    if 'out' in kwargs:
        return kwargs['out']
    if not stays:
        return found
    known = {id(held): x for held, x in zip(on_host, flat, strict=True) if isinstance(x, PretendedTensor)}
    return tree_map(lambda x: known.get(id(x), PretendedTensor(x)) if isinstance(x, Tensor) else x, found)


class Pretended(TorchDispatchMode):
    """While active, tensors can be made on the device."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return call(function, args, kwargs or {})


class GeneratorType(type):
    """Of ``torch.Generator``, whose ones for this device are generators of the host that are remembered."""

    made_by_torch = torch.Generator
    of_device: dict[int, torch.Generator] = {}  # noqa: RUF012  (kept, so that no other one gets the same address)

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, cls.made_by_torch)

    def __call__(cls, device: Any = 'cpu') -> torch.Generator:
        if not is_pretended(device):
            return cls.made_by_torch(device)
        made = cls.made_by_torch('cpu')
        return cls.of_device.setdefault(made._cdata, made)


class Generator(metaclass=GeneratorType):
    """In place of ``torch.Generator``."""


def through_host(make: Any) -> Any:
    """``torch.tensor`` and the like, which make tensors of a device in C++."""

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if not is_pretended(device):
            return make(*args, device=device, **kwargs)
        requires_grad = kwargs.pop('requires_grad', False)
        return make(*args, **kwargs).to(DEVICE).requires_grad_(requires_grad)

    return made


def there(value: Any) -> Any:
    """The content of a checkpoint, its tensors on the device."""
    if isinstance(value, dict):
        value.update((key, there(part)) for key, part in list(value.items()))
        return value
    if type(value) in (list, tuple):
        return type(value)(there(part) for part in value)
    return value.to(DEVICE) if isinstance(value, Tensor) else value


def load_through_host(load: Any) -> Any:
    """``torch.load``, whose ``map_location`` may be the device."""

    def loaded(file: Any, map_location: Any = None, **kwargs: Any) -> Any:
        if not isinstance(map_location, str | torch.device) or not is_pretended(map_location):
            return load(file, map_location=map_location, **kwargs)
        return there(load(file, map_location='cpu', **kwargs))

    return loaded


def pytest_configure(config: Any) -> None:
    """Pretend, in this process and from here on."""
    import mmengine.device.utils

    import mmdml.models  # noqa: F401  (torchvision below it compiles functions that must not be replaced yet)

    torch.Generator = Generator
    torch.tensor, torch.as_tensor = through_host(torch.tensor), through_host(torch.as_tensor)
    torch.load = load_through_host(torch.load)
    mmengine.device.utils.DEVICE = NAME
    Pretended().__enter__()
