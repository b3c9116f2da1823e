"""Embeddings and keys of both sides of a split."""

import logging

import numpy as np
import torch
from torch import Tensor

from mmdml.structures.row_facts import RowFacts

from .protocols import Split


def rows_of(embeddings: Tensor, rows: np.ndarray) -> Tensor:
    """Return some rows of ``(N, D)``; all of them in order are no copy."""
    if len(rows) == len(embeddings) and (rows == np.arange(len(rows))).all():
        return embeddings
    return embeddings[torch.from_numpy(rows)]


def sides_of(split: Split, embeddings: Tensor, facts: RowFacts) -> tuple[Tensor, Tensor | None, dict[str, np.ndarray]]:
    """Embeddings of the queries and of the gallery (None: the queries search each other), and ``query_labels``, ..."""
    gallery = None if split.gallery is None else rows_of(embeddings, split.gallery)
    keys = _keys('query', facts, split.query)
    if split.gallery is not None:
        keys |= _keys('gallery', facts, split.gallery)
    return rows_of(embeddings, split.query), gallery, keys


def remark_on_one_class(facts: RowFacts) -> None:
    """Warn if all images are of one class."""
    if len(facts) > 1 and (facts.labels == facts.labels[0]).all():
        logging.getLogger('mmdml').warning(
            'all %d images are of one class, %s: every result is right, so the scores say nothing about the model',
            *(len(facts), facts.labels[0] if facts.class_names is None else facts.class_names[facts.labels[0]]),
        )


def _keys(side: str, facts: RowFacts, rows: np.ndarray) -> dict[str, np.ndarray]:
    known = dict(labels=facts.labels, ids=facts.ids, groups=facts.groups)
    return {f'{side}_{name}': values[rows] for name, values in known.items() if values is not None}
