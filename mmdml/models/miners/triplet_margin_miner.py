"""Triplets by how they stand to a margin."""

from collections.abc import Callable

from torch import Tensor

from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Triplets
from mmdml.structures.checks import check_numbers

from .base import Miner
from .triplet_blocks import triplets_where

#: Kind -> function of :math:`d_{an} - d_{ap}` and the margin.
KINDS: dict[str, Callable[[Tensor, float], Tensor]] = {
    'all': lambda gap, margin: gap <= margin,
    'hard': lambda gap, margin: (gap <= margin) & (gap <= 0),
    'semi-hard': lambda gap, margin: (gap <= margin) & (gap > 0),
    'easy': lambda gap, margin: gap > margin,
}


@TASK_UTILS.register_module()
class TripletMarginMiner(Miner):
    r"""Triplets whose distances break a margin: all of them, or the hard or semi-hard ones; or those that keep it.

    Schroff et al., CVPR 2015. With :math:`g = d_{an} - d_{ap}` and the margin m, 'all' has :math:`g \leq m`, 'hard' of
    them :math:`g \leq 0` (the negative is not farther than the positive), 'semi-hard' :math:`g > 0`, and 'easy' has
    :math:`g > m`. Equals ``TripletMarginMiner`` of pytorch-metric-learning. Positive pairs are compared with the
    candidates in blocks, so the memory is that of the triplets found.

    Args:
        margin: m, a distance.
        kind: 'all', 'hard', 'semi-hard' or 'easy'.

    Raises:
        ValueError: if a setting is no number; if ``kind`` is unknown.

    Config::

        miner=dict(type='TripletMarginMiner', margin=0.2, kind='semi-hard')
    """

    def __init__(self, margin: float = 0.2, kind: str = 'all') -> None:
        check_numbers(margin=margin)
        if kind not in KINDS:
            raise ValueError(f'kind must be one of {list(KINDS)}, got {kind!r}')
        self.margin = margin
        self.kind = kind

    def __call__(self, pairs: PairBatch) -> Triplets:
        """Triplets, index tensors ``(T,)``."""
        distance = pairs.distance(eps=0)
        holds = KINDS[self.kind]
        return triplets_where(
            pairs,
            lambda anchor, positive: holds(distance[anchor] - distance[anchor, positive][:, None], self.margin),
        )
