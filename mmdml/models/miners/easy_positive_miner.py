"""Easy positive mining."""

from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Triplets

from .base import Miner

NEGATIVES = ('semi-hard', 'hard')


@TASK_UTILS.register_module()
class EasyPositiveMiner(Miner):
    """For every anchor the nearest positive, and the nearest negative, of all or of those beyond the positive.

    Xuan et al., WACV 2020: an image need not be near to all of its class, only to some of it. Equals
    ``BatchEasyHardMiner`` of pytorch-metric-learning with an easy positive and a semi-hard or hard negative: anchors
    without a positive or without such a negative give no triplet.

    Args:
        negatives: 'semi-hard', the nearest negative that is farther than the positive, or 'hard', the nearest.

    Raises:
        ValueError: if ``negatives`` is unknown.

    Config::

        miner=dict(type='EasyPositiveMiner', negatives='semi-hard')
    """

    def __init__(self, negatives: str = 'semi-hard') -> None:
        if negatives not in NEGATIVES:
            raise ValueError(f'negatives must be one of {NEGATIVES}, got {negatives!r}')
        self.negatives = negatives

    def __call__(self, pairs: PairBatch) -> Triplets:
        """At most one triplet per anchor, index tensors ``(T,)``."""
        if pairs.similarity.numel() == 0:
            return Triplets.none(pairs.similarity.device)
        nearest, positive = pairs.similarity.masked_fill(~pairs.positive_mask, float('-inf')).max(1)
        negatives = pairs.negative_mask
        if self.negatives == 'semi-hard':
            negatives = negatives & (pairs.similarity < nearest[:, None])
        negative = pairs.similarity.masked_fill(~negatives, float('-inf')).argmax(1)
        anchor = ((nearest > float('-inf')) & negatives.any(1)).nonzero().squeeze(1)
        return Triplets(anchor, positive[anchor], negative[anchor])
