"""Triplet loss with a soft margin."""

from mmengine.logging import print_log
from torch import Tensor
from torch.nn.functional import softplus

from mmdml.models.losses import PairLoss
from mmdml.models.miners import BatchHardMiner
from mmdml.registry import MODELS
from mmdml.structures import PairBatch, Triplets


@MODELS.register_module()
class SoftMarginTripletLoss(PairLoss):
    r"""Triplet loss whose hinge is replaced by a softplus, so that no margin has to be chosen.

    Hermans et al., arXiv 1703.07737, Sec. 2 (soft margin) with Eq. 5 (batch-hard triplets). Over T triplets of unit
    vectors with distances :math:`d = \sqrt{2 - 2s}`:

    .. math:: L = \frac{1}{T} \sum_{(a, p, n)} \tau \ln\big(1 + e^{(d_{ap} - d_{an}) / \tau}\big)

    The temperature is ours: distances of unit vectors end at 2, where a plain softplus is still nearly straight.

    Args:
        temperature: :math:`\tau > 0` in units of distance; the hinge without margin is the limit 0.

    Raises:
        ValueError: if ``temperature`` is not positive.

    Config::

        loss=dict(type='SoftMarginTripletLoss', temperature=0.1)
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f'temperature must be > 0, got {temperature}')
        self.temperature = temperature
        self._miner = BatchHardMiner()
        self._used = False

    def forward(self, pairs: PairBatch, mined: Triplets | None = None) -> Tensor:
        """Scalar loss over the given triplets, or else over one batch-hard triplet per anchor.

        Raises:
            TypeError: if a miner gives pairs.
        """
        anchor, positive, negative = self._triplets(pairs, mined)
        if not self._used:
            print_log(f'SoftMarginTripletLoss: {len(anchor)} triplets in its first batch', logger='current')
            self._used = True
        to_positive = pairs.space.distance(pairs.similarity[anchor, positive])
        to_negative = pairs.space.distance(pairs.similarity[anchor, negative])
        terms = self.temperature * softplus((to_positive - to_negative) / self.temperature)
        return terms.sum() / max(len(anchor), 1)

    def _triplets(self, pairs: PairBatch, mined: Triplets | None) -> Triplets:
        if mined is None:
            return self._miner(pairs)
        if not isinstance(mined, Triplets):
            raise TypeError(f'SoftMarginTripletLoss needs a miner that gives Triplets, got {type(mined).__name__}')
        return mined
