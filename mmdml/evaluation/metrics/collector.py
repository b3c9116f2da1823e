"""Embeddings of one rank as they come in, and the exchange of rows between ranks."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mmdml.dist import all_gather, all_gather_object, all_reduce, get_rank, get_world_size, is_main_process
from mmdml.utils.names import printable

#: What is kept of an image as an integer. A label of -1: it has none. Ids: see ``structures.row_facts.image_ids``.
FACTS = ('labels', 'roles', 'groups', 'ids')
# Rows that one rank sends at a time: bounds what an accelerator holds while parts are exchanged.
_ROWS_PER_MESSAGE = 65536


@dataclass(frozen=True)
class CollectedRows:
    """Some images of a dataset, each once, in dataset order.

    Attributes:
        index: ``(n,)`` int64, rising: which images.
        embeddings: ``(n, D)`` float32 on the CPU.
        facts: ``(n, F)`` int64, the :data:`FACTS` and further fields.
        paths: n image paths, '' where unknown.
    """

    index: Tensor
    embeddings: Tensor
    facts: Tensor
    paths: list[str]

    def __len__(self) -> int:
        return len(self.index)

    def take(self, rows: Tensor) -> 'CollectedRows':
        """Return some rows by number, ``(m,)`` int64."""
        count = len(rows)
        # The first ones in order, as the samplers of test sets give them, need no copy.
        if torch.equal(rows, torch.arange(count)):
            return CollectedRows(self.index[:count], self.embeddings[:count], self.facts[:count], self.paths[:count])
        return CollectedRows(
            self.index[rows], self.embeddings[rows], self.facts[rows], [self.paths[row] for row in rows.tolist()]
        )


class Collector:
    """Rows of one rank in one preallocated matrix, in the order in which they come.

    Args:
        capacity: rows to expect; the matrix grows if there are more.
        num_facts: F.
    """

    def __init__(self, capacity: int, num_facts: int = len(FACTS)) -> None:
        self.used = 0
        self.index = torch.empty(capacity, dtype=torch.int64)
        self.embeddings = torch.empty(capacity, 0)
        self.facts = torch.empty(capacity, num_facts, dtype=torch.int64)
        self.paths: list[str] = []

    def put(self, index: Tensor, embeddings: Tensor, facts: Tensor, paths: Sequence[str]) -> None:
        """Take the rows of a batch: ``(B,)``, ``(B, D)``, ``(B, F)`` and B paths.

        Raises:
            ValueError: if the embeddings have another width than those before.
        """
        if self.used == 0:
            self.embeddings = torch.empty(len(self.index), embeddings.shape[1])
        if embeddings.shape[1] != self.embeddings.shape[1]:
            raise ValueError(
                f'embeddings of {embeddings.shape[1]} dimensions came after others of {self.embeddings.shape[1]}'
            )
        end = self.used + len(index)
        if end > len(self.index):
            more = max(end, 2 * len(self.index)) - len(self.index)
            self.index, self.embeddings, self.facts = (
                torch.cat([rows, rows.new_empty(more, *rows.shape[1:])])
                for rows in (self.index, self.embeddings, self.facts)
            )
        now = slice(self.used, end)
        self.index[now], self.embeddings[now], self.facts[now] = index, embeddings, facts
        self.paths += paths
        self.used = end

    def rows(self) -> CollectedRows:
        """Return what came, in dataset order; an image that came twice is there as it came last."""
        index, from_end = np.unique(self.index[: self.used].numpy()[::-1], return_index=True)
        came = CollectedRows(self.index, self.embeddings, self.facts, self.paths)
        return came.take(torch.from_numpy(self.used - 1 - from_end))


def keep_own(rows: CollectedRows, size: int) -> CollectedRows:
    """Return the rows that this rank keeps: an image belongs to the lowest rank that has it.

    Samplers give some images to two ranks, so that all get equally many. Must be called on all ranks.

    Args:
        rows: of this rank, possibly none.
        size: number of images in the dataset.

    Raises:
        ValueError: on all ranks alike, if an index lies outside the dataset, the ranks have embeddings of different
            width, an image has none, or one that is not finite.
    """
    extents = all_gather_object((int(rows.index[-1]) if len(rows) else -1, rows.embeddings.shape[1]))
    last = max(index for index, _ in extents)
    if last >= size:
        raise ValueError(f'sample_idx {last} lies outside the data set of {size} images')
    widths = {f'rank {number}': width for number, (index, width) in enumerate(extents) if index >= 0}
    if len(set(widths.values())) > 1:
        raise ValueError(f'embeddings must have equally many dimensions on all ranks, got {widths}')

    no_rank = get_world_size()
    owner = torch.full((size,), no_rank)
    owner[rows.index] = get_rank()
    all_reduce(owner, 'MIN')
    missing = (owner == no_rank).nonzero().squeeze(1).tolist()
    if missing:
        raise ValueError(
            f'{len(missing)} of {size} images have no embedding; the first are {missing[:5]}. '
            'Does sample_idx run over the whole data set?'
        )
    own = rows.take((owner[rows.index] == get_rank()).nonzero().squeeze(1))
    if not len(own):
        # Nothing has a width as well: it is searched and whitened as the others' rows are.
        own = replace(own, embeddings=torch.empty(0, max(widths.values(), default=0)))

    bad = (~torch.isfinite(own.embeddings).all(1)).nonzero().squeeze(1)
    named = [(int(own.index[row]), printable(own.paths[row])) for row in bad[:5].tolist()]
    found = all_gather_object((len(bad), named))
    count = sum(number for number, _ in found)
    if count:
        images = sorted(image for _, images in found for image in images)[:5]
        first = ', '.join(f'{index} ({path})' for index, path in images)
        raise ValueError(f'the embeddings of {count} of {size} images are not finite (NaN or inf): {first}')
    return own


def facts_of_all(rows: CollectedRows, size: int) -> Tensor:
    """``(size, F)`` facts of the images of all ranks, on every rank; each image must be on one rank only."""
    facts = torch.zeros(size, rows.facts.shape[1], dtype=torch.int64)
    facts[rows.index] = rows.facts
    all_reduce(facts)
    return facts


def gather_rows(rows: CollectedRows, size: int) -> CollectedRows:
    """Rows 0 to ``size - 1`` on rank 0, none on the others; each image must be on one rank only.

    Rows travel as three tensors per message. Must be called on all ranks; what rank 0 has is not sent.
    """
    sent = rows.take(torch.arange(0 if is_main_process() else len(rows)))
    paths = np.array([os.fsencode(path) for path in sent.paths], dtype=np.bytes_)
    extent = torch.tensor([len(sent), paths.dtype.itemsize])
    all_reduce(extent, 'MAX')
    longest, path_width = extent.tolist()
    if longest == 0:
        return rows
    paths = paths.astype(f'S{path_width}').view(np.uint8).reshape(len(sent), path_width)

    width, num_facts = rows.embeddings.shape[1], rows.facts.shape[1]
    whole = CollectedRows(torch.arange(0), torch.empty(0, width), torch.empty(0, num_facts, dtype=torch.int64), [])
    if is_main_process():
        whole = CollectedRows(
            torch.arange(size), torch.empty(size, width), torch.empty(size, num_facts, dtype=torch.int64), [''] * size
        )
        _write(whole, rows)
    for start in range(0, longest, _ROWS_PER_MESSAGE):
        count = min(longest - start, _ROWS_PER_MESSAGE)
        now = slice(start, start + count)
        here = len(sent.index[now])
        # Index -1 marks the padding that makes all ranks' messages equally long.
        facts = torch.full((count, 1 + num_facts), -1, dtype=torch.int64)
        embeddings = torch.zeros(count, width)
        names = torch.zeros(count, path_width, dtype=torch.uint8)
        facts[:here, 0], facts[:here, 1:], embeddings[:here] = sent.index[now], sent.facts[now], sent.embeddings[now]
        names[:here] = torch.from_numpy(paths[now])
        messages = (all_gather(facts), all_gather(embeddings), all_gather(names))
        if is_main_process():
            for facts, embeddings, names in zip(*messages, strict=True):
                used = facts[:, 0] >= 0
                texts = names[used].numpy().view(f'S{path_width}').reshape(-1)
                received = [os.fsdecode(text) for text in texts]
                _write(whole, CollectedRows(facts[used, 0], embeddings[used], facts[used, 1:], received))
    return whole


def _write(whole: CollectedRows, rows: CollectedRows) -> None:
    whole.embeddings[rows.index] = rows.embeddings
    whole.facts[rows.index] = rows.facts
    for index, path in zip(rows.index.tolist(), rows.paths, strict=True):
        whole.paths[index] = path
