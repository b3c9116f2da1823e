"""NDCG of a search with graded relevance, by columns of the dataset."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdml.structures.label_relations import SET_MEASURES, common_levels, hierarchy_codes, read_label_sets
from mmdml.structures.row_facts import RowFacts
from mmdml.utils.numbers import is_whole

from .functional.graded import Gains, graded_ndcg


class GradedScores:
    r"""Score a search by :func:`~mmdml.evaluation.functional.graded_ndcg`, 'GradedNDCG' and 'GradedNDCG@K'.

    The gain of a gallery image is the share of levels that it has in common with the query, from the coarsest down to
    the label; or what the label sets of both have in common, in a measure of
    :data:`~mmdml.structures.label_relations.SET_MEASURES`. Training by the same relation:
    ``HierarchyTargets`` and ``LabelSetTargets``.

    Args:
        levels: columns from the coarsest level on, the label itself left out.
        label_sets: column of label sets, such as ``cat|indoor``; in place of ``levels``.
        measure: of label sets: 'jaccard', 'any' or 'product'.
        k: deepest rank that counts, or several; None for all ranks.
        distance: of the search.

    Raises:
        ValueError: without one of ``levels`` and ``label_sets``, or if a setting is out of range.
    """

    def __init__(
        self,
        levels: Sequence[str] | str | None = None,
        label_sets: str | None = None,
        measure: str = 'jaccard',
        k: int | None | Sequence[int | None] = None,
        distance: str = 'cosine',
    ) -> None:
        if bool(levels) == bool(label_sets):
            raise ValueError('graded needs either levels=[...] or label_sets=..., the columns that grade relevance')
        if measure not in SET_MEASURES:
            raise ValueError(f'measure must be one of {list(SET_MEASURES)}, got {measure!r}')
        self.levels = (
            (levels,)
            if isinstance(levels, str)
            else tuple(levels)
            if isinstance(levels, Sequence)
            else (levels,) * bool(levels)
        )
        if not all(isinstance(name, str) for name in self.levels) or not isinstance(label_sets, str | None):
            raise ValueError(f'levels and label_sets are names of columns, got {levels!r} and {label_sets!r}')
        self.label_sets = label_sets
        self.measure = measure
        self.depths = tuple(k) if isinstance(k, Sequence) and not isinstance(k, str) else (k,)
        if not self.depths or not all(depth is None or (is_whole(depth) and depth >= 1) for depth in self.depths):
            raise ValueError(f'k must be at least 1, or several such ranks, got {k!r}')
        self.distance = distance

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that grade relevance."""
        return self.levels or (self.label_sets,)

    def classes_of(self, facts: RowFacts) -> tuple[RowFacts, Gains]:
        """Return facts whose labels are equal for images of equal relevance to all others, and the gains between these.

        Raises:
            ValueError: if a column is not known, or there are groups.
        """
        if facts.groups is not None:
            raise ValueError('graded relevance counts no junk: leave out groups')
        missing = [name for name in self.columns if name not in facts.more]
        if missing:
            raise ValueError(f'graded needs the column {missing[0]!r} of the images, known are {sorted(facts.more)}')
        if self.label_sets:
            kinds, numbers = np.unique(facts.more[self.label_sets], return_inverse=True)
            sets = read_label_sets(kinds, self.label_sets)

            def related(left: Tensor, right: Tensor) -> Tensor:
                return SET_MEASURES[self.measure](sets.dense(left), sets.dense(right))
        else:
            codes = hierarchy_codes([*(facts.more[name] for name in self.levels), facts.labels])
            kinds, numbers = torch.unique(codes, dim=0, return_inverse=True)

            def related(left: Tensor, right: Tensor) -> Tensor:
                return common_levels(kinds[left], kinds[right]) / kinds.shape[1]

        def gains(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
            # Between the distinct ones, which are fewer than the images.
            (left, rows), (right, columns) = (np.unique(side, return_inverse=True) for side in (query, gallery))
            return related(torch.from_numpy(left), torch.from_numpy(right)).numpy()[rows][:, columns]

        return replace(facts, labels=np.asarray(numbers).reshape(-1)), gains

    def __call__(
        self,
        query: Tensor,
        gains: Gains,
        gallery: Tensor | None = None,
        device: str | torch.device | None = None,
        **keys: Any,
    ) -> dict[str, float]:
        """Scores by name.

        Args:
            query: ``(Q, D)``.
            gains: of :meth:`classes_of`.
            gallery: ``(G, D)``. Default: every query searches all others.
            device: where to search.
            keys: ``query_labels``, those of :meth:`classes_of`, ``query_ids``, and those of the gallery.
        """
        return {
            f'GradedNDCG{"" if depth is None else f"@{depth}"}': graded_ndcg(
                query, keys['query_labels'], gains, gallery, keys.get('gallery_labels'), k=depth,
                query_ids=keys.get('query_ids'), gallery_ids=keys.get('gallery_ids'),
                distance=self.distance, device=device,
            )
            for depth in self.depths
        }  # fmt: skip
