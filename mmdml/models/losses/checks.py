"""What losses refuse, before it ends in an error elsewhere."""

from typing import Any

import torch
from torch import Tensor

from mmdml.structures import Mined, PairBatch, Pairs, Space, Triplets
from mmdml.structures.checks import require


def check_arguments(pairs: Any, mined: Any, owner: str) -> None:
    """Refuse plain embeddings, and plain tuples, in which a triplet would read as a pair with a weight.

    Raises:
        TypeError: if ``pairs`` is no ``PairBatch``, with what makes one, or ``mined`` neither None nor ``Mined``, or
            its columns no tensors of integers.
        ValueError: if ``mined`` is a matrix of another shape than that of the pairs, or its columns are no vectors of
            one length.
    """
    if not isinstance(pairs, PairBatch):
        raise TypeError(
            f'{owner} takes a PairBatch, got {type(pairs).__name__}: PairBatch.from_embeddings(unit, labels) of '
            'mmdml.structures makes one'
        )
    if not isinstance(mined, Mined | None):
        raise TypeError(f'mined must be Pairs, Triplets or a tensor (A, X), got {type(mined).__name__}')
    shape = len(pairs.anchors), len(pairs.candidates)
    if isinstance(mined, Tensor) and mined.shape != shape:
        raise ValueError(f'a dense mined matrix must be (A, X) = {shape}, got {tuple(mined.shape)}')
    if isinstance(mined, Pairs | Triplets):
        _check_columns(mined)


def _check_columns(mined: Pairs | Triplets) -> None:
    """Refuse columns that indexing would read as something else: one entry spreads over all, a mask counts rows."""
    kind = type(mined).__name__
    columns = {name: column for name, column in mined._asdict().items() if name != 'weight' or column is not None}
    for name, column in columns.items():
        if not isinstance(column, Tensor):
            raise TypeError(f'{kind}.{name} must be a tensor, got {type(column).__name__}')
        if name != 'weight' and (column.is_floating_point() or column.dtype == torch.bool):
            raise TypeError(f'{kind}.{name} must be integers, numbers of rows, got {column.dtype}')
    shapes = {name: tuple(column.shape) for name, column in columns.items()}
    if len(mined.anchor.shape) != 1 or len(set(shapes.values())) > 1:
        raise ValueError(f'columns of {kind} must be vectors of one length, got {shapes}')


def check_hard_targets(targets: Tensor, owner: str) -> None:
    """Refuse targets between 0 and 1.

    Raises:
        ValueError: naming the owner (on an accelerator: see :func:`~mmdml.structures.checks.require`).
    """
    hard = (targets == 0) | (targets == 1)
    text = f'{owner} cannot use soft targets: each must be 0 or 1'
    require(hard.all(), text, lambda: targets[~hard][0].item())


def check_class_range(labels: Tensor, num_classes: int, owner: str) -> None:
    """Refuse class ids ``(R,)`` without an entry in a table of classes, before they end in an index error.

    Args:
        labels: ``(R,)`` class ids.
        num_classes: rows of the table; valid ids are ``0 .. num_classes - 1``.
        owner: name of the part that holds the table, for the message.

    Raises:
        ValueError: if a label is out of range, with the label (on an accelerator: see
            :func:`~mmdml.structures.checks.require`).
    """
    outside = (labels < 0) | (labels >= num_classes)
    text = f'{owner} has num_classes={num_classes}, so labels must lie in 0..{num_classes - 1}'
    require(~outside.any(), text, lambda: labels[outside][0].item())


def check_cosine_space(pairs: PairBatch, owner: str) -> None:
    """Refuse pairs whose similarity is no cosine.

    Raises:
        ValueError: naming the owner and the space.
    """
    if type(pairs.space) is not Space:
        raise ValueError(f'{owner} compares by cosine and cannot use {type(pairs.space).__name__}')


def check_label_targets(pairs: PairBatch, owner: str) -> None:
    """Refuse targets that differ from the labels, for what uses labels in other ways than through the pairs.

    Raises:
        ValueError: naming the owner (on an accelerator: see :func:`~mmdml.structures.checks.require`).
    """
    if pairs.targets is not None:
        same = pairs.anchors.labels[:, None] == pairs.candidates.labels[None, :]
        equal = (pairs.targets == same) | pairs.excluded_mask
        require(equal.all(), f'{owner} uses class labels and cannot use targets that differ from them')
