"""What the pair-based losses share."""

from abc import ABCMeta, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmdml.structures import PairBatch
from mmdml.structures.mined import Mined


class PairLoss(nn.Module, metaclass=ABCMeta):
    """A loss over the pairs of anchors and candidates.

    It sees a :class:`~mmdml.structures.PairBatch` and at most mined tuples; whether candidates are real, synthetic,
    remembered or from another rank does not concern it. ``mined`` replaces the selection that the loss would make on
    its own. A batch without a single usable pair gives a zero that still hangs on the graph.
    """

    @abstractmethod
    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss of a batch of pairs."""

    @abstractmethod
    def active_pairs(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """``(A, X)`` bool: the pairs that the loss has a gradient for."""


def unit_distance(similarity: Tensor) -> Tensor:
    r"""Euclidean distance of unit vectors from their cosine similarity, :math:`d = \sqrt{2 - 2s}`.

    The square root has no gradient at 0; equal rows get distance 1e-6 and gradient 0 instead of NaN.

    Args:
        similarity: cosine similarities, any shape.

    Returns:
        Distances in [1e-6, 2], same shape.
    """
    return (2 - 2 * similarity).clamp_min(1e-12).sqrt()


def _sum_per_anchor(terms: Tensor, weight: Tensor, num_anchors: int) -> Tensor:
    return terms.sum() / max(num_anchors, 1)


def _mean_per_term(terms: Tensor, weight: Tensor, num_anchors: int) -> Tensor:
    total = weight.sum()
    return terms.sum() / torch.where(total > 0, total, torch.ones_like(total))


#: name -> function of the weighted terms, their weights (zero: no term) and the number of anchors. 'paper' grows with
#: the number of candidates, 'mean' does not (IAA dossier, sec. 9, item 20).
REDUCTIONS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {'paper': _sum_per_anchor, 'mean': _mean_per_term}


def get_reduction(name: str) -> Callable[[Tensor, Tensor, int], Tensor]:
    """The reduction of that name.

    Raises:
        ValueError: if there is none.
    """
    if name not in REDUCTIONS:
        raise ValueError(f'reduction must be one of {sorted(REDUCTIONS)}, got {name!r}')
    return REDUCTIONS[name]
