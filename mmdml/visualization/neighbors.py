"""What a picture of a search shows: the nearest gallery rows of queries, and where each query finds its class."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from mmdml.evaluation.functional import retrieval_values
from mmdml.evaluation.protocols import by_roles
from mmdml.functional.embedding_files import own_labels
from mmdml.functional.inputs import to_matrix
from mmdml.functional.space import unit_rows
from mmdml.structures.row_facts import RowFacts

_BLOCK = 1024


@dataclass(frozen=True)
class SearchedRows:
    """Embeddings of a test set as its queries search its gallery, by cosine.

    Roles decide which rows search which, and a row never finds its own image, nor junk (its label and group).

    Attributes:
        unit: ``(N, D)`` float32, rows of length 1.
        facts: of the N images.
        query: ``(Q,)`` rows that search.
        gallery: ``(G,)`` rows that are searched.
    """

    unit: torch.Tensor
    facts: RowFacts
    query: np.ndarray
    gallery: np.ndarray

    @classmethod
    def of(cls, embeddings: np.ndarray | torch.Tensor, facts: RowFacts) -> 'SearchedRows':
        """Prepare embeddings ``(N, D)`` and what is known of their images."""
        unit = unit_rows(to_matrix('embeddings', embeddings, 'cpu')).float()
        split = next(iter(by_roles(facts)))
        return cls(unit, facts, split.query, split.query if split.gallery is None else split.gallery)

    @cached_property
    def names(self) -> np.ndarray:
        """``(N,)`` class names as text."""
        return own_labels(self.facts).astype(str)

    @cached_property
    def first_matches(self) -> tuple[np.ndarray, np.ndarray]:
        """``(Q,)`` best cosine of each query and its row; -inf and -1 where it finds none."""
        scores, rows = self.nearest(self.query, 1)
        return scores[:, 0], rows[:, 0]

    def nearest(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ``(q, k)`` best cosines and their rows; -inf and -1 where the gallery has fewer."""
        k = min(k, len(self.gallery))
        gallery, scores, rows = self.unit[self.gallery], [], []
        for start in range(0, len(query), _BLOCK):
            part = query[start : start + _BLOCK]
            similarity = self.unit[part] @ gallery.T
            similarity[torch.from_numpy(self._hidden(part))] = -torch.inf
            best = similarity.topk(k, dim=1)
            scores.append(best.values.numpy())
            rows.append(np.where(np.isinf(scores[-1]), -1, self.gallery[best.indices.numpy()]))
        return np.concatenate(scores), np.concatenate(rows)

    def first_ranks(self) -> np.ndarray:
        """``(Q,)`` rank of the first positive of each query, from 1; NaN for queries without a positive."""
        facts, own = self.facts, np.array_equal(self.query, self.gallery)
        sides = dict(query=self.query) if own else dict(query=self.query, gallery=self.gallery)
        keys = {
            f'{side}_{name}': values[rows]
            for side, rows in sides.items()
            for name, values in dict(labels=facts.labels, ids=facts.ids, groups=facts.groups).items()
            if values is not None
        }
        gallery = None if own else self.unit[self.gallery]
        found = retrieval_values(self.unit[self.query], gallery=gallery, metrics=['MRR'], **keys)
        inverse = found.values['MRR'].numpy()
        return 1 / np.where(found.answered.numpy(), inverse, np.nan)

    def right(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """``(q, k)`` whether rows have the label of their query."""
        return self.facts.labels[rows] == self.facts.labels[query][:, None]

    def _hidden(self, query: np.ndarray) -> np.ndarray:
        """``(q, G)`` the query's own image, and junk."""
        facts = self.facts
        hidden = facts.ids[query][:, None] == facts.ids[self.gallery]
        if facts.groups is not None:
            same_group = facts.groups[query][:, None] == facts.groups[self.gallery]
            hidden |= same_group & (facts.labels[query][:, None] == facts.labels[self.gallery])
        return hidden
