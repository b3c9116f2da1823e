"""Which gallery rows are positives, junk, or the query itself: without comparing every query with every row."""

from typing import NamedTuple

import torch
from torch import Tensor


class Matches(NamedTuple):
    """The positives of a block of queries, and what must be hidden. Columns are gallery rows, padded to equal numbers.

    Attributes:
        columns: ``(Q, P)`` int64, the rows of the query's label, in order of the gallery.
        same_label: ``(Q, P)`` bool, which of ``columns`` are no padding.
        relevant: ``(Q, P)`` bool, which of them are positives: neither the query itself nor junk.
        hidden: ``(Q, W)`` int64, the rows that are the query itself, whatever their label.
        is_hidden: ``(Q, W)`` bool, which of ``hidden`` are no padding.
    """

    columns: Tensor
    same_label: Tensor
    relevant: Tensor
    hidden: Tensor
    is_hidden: Tensor


class _Rows:
    """Gallery rows by key."""

    def __init__(self, keys: Tensor) -> None:
        self.keys, self.rows = keys.sort(stable=True)

    def count(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """``(Q,)`` first place of every key among the sorted ones, and ``(Q,)`` number of its rows."""
        start = torch.searchsorted(self.keys, keys)
        return start, torch.searchsorted(self.keys, keys, right=True) - start

    def find(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of every key, ``(Q,)`` -> ``(Q, W)`` row numbers and ``(Q, W)`` bool: which of them count."""
        start, count = self.count(keys)
        offset = torch.arange(max(int(count.max()), 1), device=keys.device)
        place = (start[:, None] + offset).clamp_max(len(self.keys) - 1)
        return self.rows[place], offset < count[:, None]


class Relevance:
    """Which gallery rows are positives of which queries.

    Args:
        query_labels: ``(Q,)`` int64.
        gallery_labels: ``(G,)`` int64.
        ids: of queries and gallery; rows with the query's id are the query itself. None: nobody is.
        groups: of queries and gallery; rows of the query's label and group are junk. None: nothing is.
    """

    def __init__(
        self,
        query_labels: Tensor,
        gallery_labels: Tensor,
        ids: tuple[Tensor, Tensor] | None = None,
        groups: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.query_labels = query_labels
        self.gallery_labels = gallery_labels
        self.ids = ids
        self.groups = groups
        self._by_label = _Rows(gallery_labels)
        self._by_id = None if ids is None else _Rows(ids[1])
        self.same_label = self._by_label.count(query_labels)[1]
        #: ``(Q,)`` gallery rows of each query's label that are the query itself.
        self.num_own = torch.zeros_like(self.same_label)
        self.num_relevant, self.num_hidden = self._count()

    def _count(self) -> tuple[Tensor, Tensor]:
        """``(Q,)`` positives of each query, and ``(Q,)`` gallery rows that are neither positives nor negatives."""
        positives, hidden = self.same_label.clone(), torch.zeros_like(self.same_label)
        if self.groups is not None:
            query, gallery = _pair_codes((self.query_labels, self.gallery_labels), self.groups)
            hidden = _Rows(gallery).count(query)[1]
            positives -= hidden
        if self.ids is not None:
            columns, is_hidden = self._by_id.find(self.ids[0])
            same_label = self.gallery_labels[columns] == self.query_labels[:, None]
            self.num_own = (is_hidden & same_label).sum(1)
            if self.groups is not None:
                # Junk is counted already.
                is_hidden = is_hidden & ~(same_label & (self.groups[1][columns] == self.groups[0][:, None]))
            hidden = hidden + is_hidden.sum(1)
            positives -= (is_hidden & same_label).sum(1)
        return positives, hidden

    def largest_class(self) -> int:
        """Return the most gallery rows of one label: how wide ``Matches`` can get."""
        return int(torch.unique_consecutive(self._by_label.keys, return_counts=True)[1].max())

    def of(self, queries: Tensor) -> Matches:
        """Return the matches of some queries, by their numbers ``(q,)``."""
        columns, same_label = self._by_label.find(self.query_labels[queries])
        relevant = same_label
        hidden, is_hidden = columns[:, :0], same_label[:, :0]
        if self.ids is not None:
            query_ids, gallery_ids = self.ids
            hidden, is_hidden = self._by_id.find(query_ids[queries])
            relevant = relevant & (gallery_ids[columns] != query_ids[queries, None])
        if self.groups is not None:
            query_groups, gallery_groups = self.groups
            relevant = relevant & (gallery_groups[columns] != query_groups[queries, None])
        return Matches(columns, same_label, relevant, hidden, is_hidden)


def _pair_codes(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Codes of pairs of keys on both sides, equal where both keys are."""
    number = len(first[0])
    dense = [torch.unique(torch.cat(sides), return_inverse=True)[1] for sides in (first, second)]
    codes = dense[0] * (dense[1].max() + 1) + dense[1]
    return codes[:number], codes[number:]
