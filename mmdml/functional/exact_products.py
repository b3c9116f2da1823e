"""Matrix products in full precision, whatever training has set."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Since torch 2.9 each backend has its own setting, and asking for the old one is an error where they were used.
_BACKENDS = (
    [
        backend
        for backend in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
        if hasattr(backend, 'fp32_precision')
    ]
    if hasattr(torch.backends.mkldnn, 'matmul')
    else []
)


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Matrix products in full fp32, whatever training has set: TF32 and bf16 err by more than `Space` allows for."""
    before = [backend.fp32_precision for backend in _BACKENDS] or torch.get_float32_matmul_precision()
    try:
        if _BACKENDS:
            _set_precisions(['ieee'] * len(_BACKENDS))
        else:
            torch.set_float32_matmul_precision('highest')
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        if _BACKENDS:
            _set_precisions(before)
        else:
            torch.set_float32_matmul_precision(before)


def _set_precisions(values: list[str]) -> None:
    for backend, value in zip(_BACKENDS, values, strict=True):
        backend.fp32_precision = value
