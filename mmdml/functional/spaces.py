"""Distances as matrix products: what turns embeddings into rows whose products are scores."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

#: Scores this close tie (at unit scale).
TIE = 1e-6
# Columns whose median is taken at once, and rows whose norms are.
_COLUMNS = 16
_ROWS = 2**14

#: Rows of this process -> rows of all that hold a part.
Gather = Callable[[Tensor], Tensor]


class Space(NamedTuple):
    """Scores are ``query @ gallery.T``, higher is nearer; those of query i tie within ``tie[i]``.

    Attributes:
        query: ``(Q, D')``.
        gallery: ``(G, D')``.
        tie: ``(Q, 1)``.
    """

    query: Tensor
    gallery: Tensor
    tie: Tensor


def unit_rows(rows: Tensor) -> Tensor:
    """``(N, D)`` rows of length 1, whatever their norms: no square over- or underflows. Rows of zeros stay zero."""
    rows = rows / _largest(rows)
    # Their largest entry is 1 now, so that only rows of zeros are shorter than 1.
    return rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min_(1))


def _largest(rows: Tensor) -> Tensor:
    """``(N, 1)`` the largest magnitude in each row; 1 where all are 0."""
    largest = torch.linalg.vector_norm(rows, float('inf'), dim=1, keepdim=True)
    return largest.where(largest > 0, 1)


def _alone(rows: Tensor) -> Tensor:
    return rows


def _norms(rows: Tensor) -> Tensor:
    """``(N, 1)``; as above, no square over- or underflows."""
    norms = [
        _largest(block) * torch.linalg.vector_norm(block / _largest(block), dim=1, keepdim=True)
        for block in rows.split(_ROWS)
    ]
    return torch.cat(norms)


def _check_scores(largest: float, dtype: torch.dtype) -> None:
    if largest > torch.finfo(dtype).max:
        raise ValueError(f'embeddings are too large: scores up to {largest:.1e} overflow {dtype}; scale them down')


def _scale(norms: Tensor) -> Tensor:
    """The median of the norms; of those above 0, as dead rows say nothing about the others."""
    norms = norms[norms > 0]
    return norms.median() if len(norms) else norms.new_zeros(())


def _cosine(query: Tensor, gallery: Tensor, gather: Gather = _alone) -> Space:
    unit_gallery = unit_rows(gallery)
    unit_query = unit_gallery if query is gallery else unit_rows(query)
    return Space(unit_query, unit_gallery, query.new_full((len(query), 1), TIE))


def _dot(query: Tensor, gallery: Tensor, gather: Gather = _alone) -> Space:
    query_norms, all_norms = _norms(query), gather(_norms(gallery))
    _check_scores(float(gather(query_norms).amax()) * float(all_norms.amax()), query.dtype)
    return Space(query, gallery, TIE * query_norms * _scale(all_norms))


def _euclidean(query: Tensor, gallery: Tensor, gather: Gather = _alone) -> Space:
    # q.g - |g|^2 / 2 falls as |q - g| grows. A common offset of all rows would only cost digits: take it out first.
    # The median, as one far row must not move it. Few columns at a time: no rank holds the whole gallery.
    centre = torch.cat([gather(columns).median(0).values for columns in gallery.split(_COLUMNS, dim=1)])
    query, gallery = query - centre, gallery - centre
    query_norms, norms = _norms(query), _norms(gallery)
    all_norms = gather(norms)
    longest = float(all_norms.amax())
    _check_scores(longest * (float(gather(query_norms).amax()) + longest / 2), query.dtype)
    scale = _scale(all_norms)
    tie = TIE * scale * query_norms.clamp_min(scale)
    # The second term as one more dimension: the matrix product then does all of it.
    bias = norms.square() / -2
    return Space(torch.cat([query, torch.ones_like(query[:, :1])], 1), torch.cat([gallery, bias], 1), tie)


#: name -> function that turns query and gallery embeddings into something a matrix product can score. Where the rows
#: are parts that several processes hold, a third argument gathers rows of all parts.
DISTANCES: dict[str, Callable[..., Space]] = {'cosine': _cosine, 'dot': _dot, 'euclidean': _euclidean}


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
