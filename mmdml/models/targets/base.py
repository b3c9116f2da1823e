"""What targets that come from columns of the training set share."""

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from mmdml.structures import Rows
from mmdml.utils.near_names import did_you_mean
from mmdml.utils.representation import constructor_arguments


class ColumnTargets(nn.Module, metaclass=ABCMeta):
    """How much each pair is a positive, ``(A, X)`` in [0, 1], by facts of the images that the training set carries.

    Before training ``DatasetColumnsHook`` passes the columns of the training set to :meth:`read_columns`. A row's image
    is that of its data-set index (real rows, remembered ones, copies); a row without one takes the mean over its
    parents, which are anchors, weighted by their shares if it is mixed from two classes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_ready = False

    @abstractmethod
    def read_columns(self, labels: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        """Keep what is needed of ``(N,)`` labels and of columns by name; then set ``_is_ready``."""

    @abstractmethod
    def between(self, left: Tensor, right: Tensor) -> Tensor:
        """Targets of ``(R,)`` and ``(S,)`` images by number: ``(R, S)``."""

    def forward(self, anchors: Rows, candidates: Rows) -> Tensor:
        """Compute ``(A, X)`` targets.

        Raises:
            RuntimeError: without columns.
            ValueError: if a row has neither an image nor a parent with one.
        """
        if not self._is_ready:
            raise RuntimeError(
                f'{type(self).__name__} has not read the columns of the training set: default_hooks needs '
                "dict(type='DatasetColumnsHook'), see configs/_base_/default_runtime.py"
            )
        if (anchors.indices < 0).any():
            raise ValueError(
                f'{type(self).__name__} finds the facts of a row by its data-set index, but some rows have none: '
                "PackInputs needs 'sample_idx' among its meta_keys"
            )
        images = _images(anchors, candidates)
        if (images < 0).all(1).any():
            raise ValueError(
                f'{type(self).__name__} needs an image or a parent of each candidate, but a source gives rows of none'
            )
        weights = _weights(candidates, images)
        parts = zip(images.unbind(1), weights.unbind(1), strict=True)
        return sum(self.between(anchors.indices, own.clamp_min(0)) * weight for own, weight in parts).clamp(0, 1)

    def extra_repr(self) -> str:
        return constructor_arguments(self)


def column_of(columns: Mapping[str, np.ndarray], name: str, owner: str) -> np.ndarray:
    """Return a column.

    Raises:
        ValueError: if the training set has none of that name.
    """
    if name not in columns:
        raise ValueError(
            f'{owner} needs the column {name!r} of the training set, which has {sorted(columns)}'
            f'{did_you_mean(name, columns)}; an ImageList reads the columns of its table'
        )
    return columns[name]


def _images(anchors: Rows, candidates: Rows) -> Tensor:
    """``(X, V)`` images that candidates were made from, -1 at unused places."""
    own = candidates.indices[:, None]
    if (own >= 0).all():
        return own
    views = candidates.views
    if candidates.num_parents is not None:
        places = torch.arange(views.shape[1], device=views.device)
        views = views.masked_fill(places >= candidates.num_parents[:, None], -1)
    parents = torch.where(views >= 0, anchors.indices[views.clamp_min(0)], -1)
    first = torch.where(own >= 0, own, parents[:, :1])
    return torch.cat([first, torch.where(own >= 0, -1, parents[:, 1:])], dim=1)


def _weights(candidates: Rows, images: Tensor) -> Tensor:
    """``(X, V)`` share of each image in its candidate, of sum 1."""
    known = (images >= 0).to(torch.float32)
    weights = known / known.sum(1, keepdim=True)
    if candidates.shares is not None and images.shape[1] > 1:
        mixed = (candidates.second_labels != candidates.labels) & (images[:, 1] >= 0)
        pair = torch.stack([candidates.shares, 1 - candidates.shares], dim=1).to(weights)
        weights[:, :2] = torch.where(mixed[:, None], pair, weights[:, :2])
    return weights
