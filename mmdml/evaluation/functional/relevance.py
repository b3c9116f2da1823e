"""Which gallery rows answer a query, which do not count at all: found without comparing every query with every row."""

from typing import NamedTuple

import torch
from torch import Tensor


class Answers(NamedTuple):
    """What a block of queries is to find. Columns are gallery rows; where there are fewer, they are padded.

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

    def find(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of every key, ``(Q,)`` -> ``(Q, W)`` row numbers and ``(Q, W)`` bool: which of them count."""
        start = torch.searchsorted(self.keys, keys)
        count = torch.searchsorted(self.keys, keys, right=True) - start
        offset = torch.arange(max(int(count.max()), 1), device=keys.device)
        place = (start[:, None] + offset).clamp_max(len(self.keys) - 1)
        return self.rows[place], offset < count[:, None]


class Relevance:
    """Who answers whom.

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

    def largest_class(self) -> int:
        """The most gallery rows of one label: how wide ``Answers`` can get."""
        return int(torch.unique_consecutive(self._by_label.keys, return_counts=True)[1].max())

    def of(self, part: slice) -> Answers:
        """The answers of some queries."""
        columns, same_label = self._by_label.find(self.query_labels[part])
        relevant = same_label
        hidden, is_hidden = columns[:, :0], same_label[:, :0]
        if self.ids is not None:
            query_ids, gallery_ids = self.ids
            hidden, is_hidden = self._by_id.find(query_ids[part])
            relevant = relevant & (gallery_ids[columns] != query_ids[part, None])
        if self.groups is not None:
            query_groups, gallery_groups = self.groups
            relevant = relevant & (gallery_groups[columns] != query_groups[part, None])
        return Answers(columns, same_label, relevant, hidden, is_hidden)

    def compare(self, part: slice, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Some queries with some gallery rows each, ``(Q, K)``: have they one label, does the pair count?"""
        same_label = self.gallery_labels[columns] == self.query_labels[part, None]
        counts = torch.ones_like(same_label)
        if self.ids is not None:
            counts &= self.ids[1][columns] != self.ids[0][part, None]
        if self.groups is not None:
            counts &= ~same_label | (self.groups[1][columns] != self.groups[0][part, None])
        return same_label, counts
