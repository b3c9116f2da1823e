"""NDCG with graded relevance: classes that are near count in part."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdml.functional.exact_products import exact_products
from mmdml.functional.inputs import encode, to_keys, to_sides
from mmdml.utils.near_names import did_you_mean
from mmdml.utils.numbers import check_counts

from .arguments import Keys, check_sides
from .image_pairs import SIMILARITIES

#: ``(q,)`` and ``(G,)`` labels as the caller has them -> ``(q, G)`` gains of at least 0.
Gains = Callable[[np.ndarray, np.ndarray], np.ndarray]


def hierarchy_gains(levels: dict[Any, Sequence[Any]]) -> Gains:
    """Gains of classes in a hierarchy: the share of levels that two classes have in common, from the root down.

    Barz and Denzler, WACV 2019 use a hierarchy so for the quality of semantic retrieval (by the height of the lowest
    common ancestor). With levels (order, family, species), two species of one family gain 2/3.

    Args:
        levels: label -> its names from the coarsest to the finest level, equally many for all labels.

    Raises:
        ValueError: if labels have differently many levels, or none.

    Example:
        >>> gains = hierarchy_gains({'crow': ('songbird', 'corvid', 'crow'), 'jay': ('songbird', 'corvid', 'jay')})
        >>> gains(np.array(['crow']), np.array(['crow', 'jay'])).round(2).tolist()
        [[1.0, 0.67]]
    """
    depths = {len(names) for names in levels.values()}
    if len(depths) != 1 or 0 in depths:
        raise ValueError(f'all labels must have equally many levels, at least one; got {sorted(depths)}')
    depth = depths.pop()
    # A level is the same only if all coarser ones are.
    codes = {label: [tuple(names[: level + 1]) for level in range(depth)] for label, names in levels.items()}
    number = {name: i for i, name in enumerate(dict.fromkeys(name for names in codes.values() for name in names))}

    def gains(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        try:
            first, second = (
                np.array([[number[name] for name in codes[key]] for key in side.tolist()]) for side in (query, gallery)
            )
        except KeyError as error:
            raise ValueError(f'the hierarchy lacks the label {error.args[0]!r}') from None
        return (first[:, None] == second[None]).mean(2)

    return gains


@torch.no_grad()
def graded_ndcg(
    query: Tensor | np.ndarray,
    query_labels: Keys,
    gains: Gains,
    gallery: Tensor | np.ndarray | None = None,
    gallery_labels: Keys | None = None,
    *,
    k: int | None = None,
    query_ids: Keys | None = None,
    gallery_ids: Keys | None = None,
    distance: str = 'cosine',
    block_size: int = 256,
    device: str | torch.device | None = None,
) -> float:
    r"""NDCG with graded relevance, the mean over queries.

    Jarvelin and Kekalainen, ACM TOIS 2002, with the gain itself as in scikit-learn, :math:`g_i` of the gallery row at
    rank i and :math:`g^*_i` in the best order:

    .. math::
        \mathrm{DCG} = \sum_{i \le K} \frac{g_i}{\log_2 (i + 1)}, \quad
        \mathrm{NDCG} = \frac{\mathrm{DCG}}{\sum_{i \le K} g^*_i / \log_2 (i + 1)}

    Of equal scores the lower gain comes first, so that ties never flatter. For gains of 1 within a class and 0 else,
    the measure 'NDCG@K' of :func:`~mmdml.evaluation.functional.retrieval_scores` is the same and far cheaper: here
    every row is sorted, by products in fp64, where cosines that differ by less than 1.4e-14, their rounding, tie.

    Args:
        query: ``(Q, D)`` embeddings.
        query_labels: ``(Q,)`` int64 values or strings.
        gains: of two sets of labels, such as :func:`hierarchy_gains`.
        gallery: ``(G, D)``. Default: every query searches all the others.
        gallery_labels: ``(G,)``, needed with ``gallery``.
        k: deepest rank that counts. Default: all.
        query_ids: ``(Q,)`` ints or strings; a query does not find rows of its id. Default: ``arange(Q)`` where the
            queries search each other, none otherwise.
        gallery_ids: ``(G,)``, only with ``gallery``.
        distance: 'cosine', 'dot', 'euclidean' or 'hyperbolic'.
        block_size: queries scored at a time.
        device: where to compute. Default: where ``query`` is.

    Returns:
        A score in [0, 1]; queries for which nothing has a gain are left out.

    Raises:
        ValueError: if shapes do not fit, embeddings are not finite, a gain is negative or not finite, ``k`` or
            ``block_size`` is no integer of at least 1, or nothing has a gain.
        TypeError: if labels or ids are neither integers nor strings.
    """
    check_counts(block_size=block_size, **({} if k is None else dict(k=k)))
    if distance not in SIMILARITIES:
        near = did_you_mean(distance, SIMILARITIES)
        raise ValueError(f'unknown distance {distance!r}; known are {list(SIMILARITIES)}{near}')
    own_gallery = gallery is None
    check_sides(
        own_gallery,
        dict(labels=query_labels, ids=query_ids, groups=None),
        dict(labels=gallery_labels, ids=gallery_ids, groups=None),
    )
    if own_gallery and query_ids is None:
        query_ids = np.arange(len(query))
    query, gallery = to_sides(query, gallery, device)
    labels = to_keys('query_labels', query_labels, len(query))
    others = labels if own_gallery else to_keys('gallery_labels', gallery_labels, len(gallery))
    ids = None
    if query_ids is not None and (own_gallery or gallery_ids is not None):
        ids = encode('ids', query_ids, gallery_ids, query, gallery)

    values = []
    with exact_products(query.device):
        if query.device.type != 'mps':
            # Near rows, and very large or small ones, have no digits left in fp32.
            query = query.double()
            gallery = query if own_gallery else gallery.double()
        query, compare = SIMILARITIES[distance](query)
        gallery = query if own_gallery else SIMILARITIES[distance](gallery)[0]
        for start in range(0, len(query), block_size):
            part = slice(start, start + block_size)
            gain = _checked(gains(labels[part], others), (len(labels[part]), len(others))).to(query.device)
            scores = compare(query[part], gallery)
            if ids is not None:
                itself = ids[0][part, None] == ids[1][None]
                # Behind all others, and of no gain.
                gain, scores = gain.masked_fill(itself, 0), scores.masked_fill(itself, float('-inf'))
            best = _dcg(gain.sort(1, descending=True).values, k)
            order = torch.argsort(gain, dim=1, stable=True)
            order = order.gather(1, torch.argsort(scores.gather(1, order), dim=1, descending=True, stable=True))
            values.append((_dcg(gain.gather(1, order), k) / best)[best > 0].cpu())
    found = torch.cat(values)
    if not len(found):
        raise ValueError(f'for none of the {len(query)} queries has a gallery row a gain: nothing can be scored')
    return float(found.mean())


def _checked(gains: Any, shape: tuple[int, int]) -> Tensor:
    """Gains as a matrix of fp64.

    Raises:
        ValueError: for another shape, which would spread over the pairs, or a gain that is negative or not finite.
    """
    gains = np.array(gains, dtype=np.float64)
    if gains.shape != shape:
        raise ValueError(f'gains of {shape[0]} queries and {shape[1]} gallery rows must be {shape}, got {gains.shape}')
    wrong = gains[~(np.isfinite(gains) & (gains >= 0))]
    if len(wrong):
        raise ValueError(f'gains must be at least 0 and finite, got {wrong[0]}')
    return torch.from_numpy(gains)


def _dcg(gains: Tensor, k: int | None) -> Tensor:
    gains = gains[:, :k]
    return (gains / torch.arange(2, gains.shape[1] + 2, dtype=gains.dtype, device=gains.device).log2()).sum(1)
