"""NT-Xent loss."""

from torch import Tensor
from torch.nn.functional import softplus

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_positive

from .base import PairLoss
from .pair_sums import log_sum_exp, weighted_mean


@MODELS.register_module()
class NTXentLoss(PairLoss):
    r"""NT-Xent or InfoNCE: every positive alone in a softmax with the negatives of its anchor.

    Chen et al., ICML 2020 (SimCLR), Eq. 1, after InfoNCE (van den Oord et al., arXiv 1807.03748, Eq. 4), for any number
    of positives: the mean over all positive pairs (i, j) of

    .. math:: \ell_{ij} = -\ln \frac{e^{s_{ij} / \tau}}{e^{s_{ij} / \tau} + \sum_{k \in N_i} e^{s_{ik} / \tau}}

    The other positives of an anchor are not in the denominator; in
    :class:`~mmdml.models.losses.SupConLoss` they are. Equals ``NTXentLoss`` of pytorch-metric-learning. Weights of
    mined pairs, and soft targets t and 1 - t, multiply the terms of positives and the exponentials of negatives.

    Args:
        temperature: :math:`\tau`, above 0. 0.07 is that of pytorch-metric-learning; SimCLR's code has 0.1
            (ImageNet; 0.5 for CIFAR-10).

    Raises:
        ValueError: if ``temperature`` is not positive.

    Config::

        loss=dict(type='NTXentLoss', temperature=0.07)
    """

    soft_targets = True

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        self.temperature = temperature

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the set of all pairs."""
        positive, negative = pairs.weights(mined)
        logits = pairs.similarity / self.temperature
        against = log_sum_exp(logits, negative)
        return weighted_mean(softplus(against[:, None] - logits), positive)
