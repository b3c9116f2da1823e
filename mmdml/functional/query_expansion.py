"""Query expansion: search again with a query that its own nearest neighbors have moved."""

import numpy as np
import torch
from torch import Tensor

from mmdml.utils.numbers import check_counts, is_number, is_whole

from .exact_products import exact_products
from .inputs import check_finite, encode, to_matrix
from .space import unit_rows

Keys = Tensor | np.ndarray | list[int] | list[str]

#: A block of scores holds at most so many entries (256 MB in fp32), however large the gallery.
_MAX_BLOCK_ENTRIES = 2**26


@torch.no_grad()
def alpha_query_expansion(
    query: Tensor | np.ndarray,
    gallery: Tensor | np.ndarray | None = None,
    *,
    k: int = 10,
    alpha: float = 3.0,
    query_ids: Keys | None = None,
    gallery_ids: Keys | None = None,
    block_size: int = 1024,
    device: str | torch.device | None = None,
) -> Tensor:
    r"""Alpha query expansion (Radenovic et al., TPAMI 2019, "Fine-tuning CNN image retrieval").

    Over the k gallery rows with the largest cosine similarity s to the query, all of them unit vectors:

    .. math::
        q' = \frac{\hat q}{|\hat q|}, \quad \hat q = q + \sum_{i=1}^{k} \max(s_i, 0)^\alpha \, g_i

    ``alpha=0`` is average query expansion (Chum et al., ICCV 2007): all k count like the query itself. A negative
    similarity has no real power and weighs 0, except with ``alpha=0``, where all k weigh 1.

    Without ``gallery`` each row is moved by its neighbors among the others. That is what to do when all images search
    each other, and for a gallery it is database-side augmentation (Arandjelovic and Zisserman, CVPR 2012).

    Args:
        query: ``(Q, D)`` embeddings, of any norm.
        gallery: ``(G, D)`` embeddings. Default: ``query``, each row without itself.
        k: neighbors; all there are, if the gallery has fewer.
        alpha: 0 or more; larger values trust only the nearest.
        query_ids: ``(Q,)`` ints or strings: gallery rows with the query's id are not its neighbors. With the default
            gallery: ``arange(Q)``.
        gallery_ids: ``(G,)``, with ``gallery`` and ``query_ids``.
        block_size: queries searched at a time, fewer where the gallery is large.
        device: where to compute. Default: where ``query`` is.

    Returns:
        ``(Q, D)`` unit vectors, fp32, or fp64 if either input is.

    Raises:
        ValueError: if shapes do not fit, a side is empty or not finite, or a setting is out of range.
        TypeError: if ids are neither integers nor strings.
    """
    check_counts(k=k)
    # Also refuses NaN.
    if not is_number(alpha) or not 0 <= alpha < float('inf'):
        raise ValueError(f'alpha must be 0 or more, got {alpha!r}')
    if not is_whole(block_size) or block_size < 1:
        raise ValueError(f'block_size must be at least 1, got {block_size!r}')
    own_gallery = gallery is None
    if own_gallery and gallery_ids is not None:
        raise ValueError('gallery_ids were given without a gallery')
    if not own_gallery and (query_ids is None) != (gallery_ids is None):
        raise ValueError('to leave out gallery rows by id takes both query_ids and gallery_ids')
    query = _unit('query', query, device)
    gallery = query if own_gallery else _unit('gallery', gallery, query.device)
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(f'query has {query.shape[1]} dimensions, the gallery {gallery.shape[1]}')
    dtype = torch.promote_types(query.dtype, gallery.dtype)
    query, gallery = query.to(dtype), gallery.to(dtype)
    if own_gallery and query_ids is None:
        query_ids = np.arange(len(query))
    if query_ids is not None:
        query_ids, gallery_ids = encode('ids', query_ids, gallery_ids, query, gallery)

    expanded = torch.empty_like(query)
    rows_at_once = max(1, min(block_size, _MAX_BLOCK_ENTRIES // len(gallery)))
    with exact_products(query.device):
        for start in range(0, len(query), rows_at_once):
            part = slice(start, start + rows_at_once)
            scores = query[part] @ gallery.t()
            if query_ids is not None:
                scores.masked_fill_(query_ids[part, None] == gallery_ids, float('-inf'))
            top, neighbors = scores.topk(min(k, len(gallery)), dim=1)
            # Rows left out are -inf here if fewer than k others are there; 0 ** 0 is 1 for all the rest.
            weights = top.clamp(0, 1).pow(alpha).masked_fill_(top == float('-inf'), 0)
            moved = query[part].clone()
            # One neighbor at a time: gathering all k of them would take k blocks of embeddings.
            for column in range(neighbors.shape[1]):
                moved += weights[:, column, None] * gallery[neighbors[:, column]]
            expanded[part] = unit_rows(moved)
    return expanded


def _unit(name: str, rows: Tensor | np.ndarray, device: str | torch.device | None) -> Tensor:
    rows = to_matrix(name, rows, device)
    if len(rows) == 0:
        raise ValueError(f'the {name} is empty')
    check_finite(name, rows)
    return unit_rows(rows)
