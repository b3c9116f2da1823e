"""Distances as matrix products: what turns embeddings into rows whose products are scores."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

#: Scores this close tie (at unit scale).
TIE = 1e-6


class Space(NamedTuple):
    """Scores are ``query @ gallery.T``, higher is nearer, and tie within ``tie``."""

    query: Tensor
    gallery: Tensor
    tie: float


def _rms_norm(name: str, rows: Tensor) -> float:
    norm = float(rows.square().sum(1).mean().sqrt())
    if not math.isfinite(norm):
        raise ValueError(f'{name} embeddings are too large: their squared norms overflow {rows.dtype}; scale them down')
    # Not 0: rows that are all zero score an exact 0, and ties must still be ties.
    return max(norm, 1e-12)


def _cosine(query: Tensor, gallery: Tensor) -> Space:
    for name, rows in {'query': query, 'gallery': gallery}.items():
        _rms_norm(name, rows)
    unit_gallery = torch.nn.functional.normalize(gallery)
    unit_query = unit_gallery if query is gallery else torch.nn.functional.normalize(query)
    return Space(unit_query, unit_gallery, TIE)


def _dot(query: Tensor, gallery: Tensor) -> Space:
    return Space(query, gallery, TIE * _rms_norm('query', query) * _rms_norm('gallery', gallery))


def _euclidean(query: Tensor, gallery: Tensor) -> Space:
    # q.g - |g|^2 / 2 falls as |q - g| grows. A common offset of all rows would only cost digits: take it out first.
    centre = gallery.mean(0)
    query, gallery = query - centre, gallery - centre
    scale = _rms_norm('gallery', gallery)
    tie = TIE * scale * max(_rms_norm('query', query), scale)
    # The second term as one more dimension: the matrix product then does all of it.
    bias = gallery.square().sum(1, keepdim=True) / -2
    return Space(torch.cat([query, torch.ones_like(query[:, :1])], 1), torch.cat([gallery, bias], 1), tie)


#: name -> function that turns query and gallery embeddings into something a matrix product can score.
DISTANCES: dict[str, Callable[[Tensor, Tensor], Space]] = {'cosine': _cosine, 'dot': _dot, 'euclidean': _euclidean}


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
    """Matrix products in full fp32, whatever training has set: TF32 and bf16 products err by more than a tie."""
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
