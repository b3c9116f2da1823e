"""The pair mining of the multi-similarity loss."""

from mmdml.models.losses.multi_similarity_loss import multi_similarity_mask
from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Pairs
from mmdml.structures.checks import check_numbers

from .base import Miner


@TASK_UTILS.register_module()
class MultiSimilarityMiner(Miner):
    """Mine positives and negatives that are hard beside each other, as the multi-similarity loss does.

    Wang et al., CVPR 2019, in the form of :func:`~mmdml.models.losses.multi_similarity_loss.multi_similarity_mask`; for
    use with any loss.

    Args:
        epsilon: margin, a difference of similarities.

    Raises:
        ValueError: if a setting is no number.

    Config::

        miner=dict(type='MultiSimilarityMiner', epsilon=0.1)
    """

    def __init__(self, epsilon: float = 0.1) -> None:
        check_numbers(epsilon=epsilon)
        self.epsilon = epsilon

    def __call__(self, pairs: PairBatch) -> Pairs:
        """Mined positive and negative pairs, index tensors ``(P,)`` without weights."""
        return Pairs(*multi_similarity_mask(pairs, self.epsilon).nonzero(as_tuple=True))
