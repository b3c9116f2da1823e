"""Circle loss."""

from torch import Tensor
from torch.nn.functional import softplus

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_numbers, check_positive

from .base import PairLoss
from .pair_sums import log_sum_exp


@MODELS.register_module()
class CircleLoss(PairLoss):
    r"""Circle loss: similarities that are far from their optimum weigh more.

    Sun et al., CVPR 2020, with the margins :math:`O_p = 1 + m, O_n = -m, \Delta_p = 1 - m,
    \Delta_n = m`: the mean over the anchors that have both a positive and a negative of

    .. math:: \ln\Big(1 + \sum_{k \in N_i} e^{\gamma \alpha_{ik} (s_{ik} - m)}
        \sum_{j \in P_i} e^{-\gamma \alpha_{ij} (s_{ij} - 1 + m)}\Big), \quad
        \alpha_{ij} = [1 + m - s_{ij}]_+, \; \alpha_{ik} = [s_{ik} + m]_+

    The :math:`\alpha` are weights without a gradient. Equals ``CircleLoss`` of pytorch-metric-learning, which averages
    over the anchors whose loss is above 0. Weights of mined pairs, and soft targets t and 1 - t, multiply the
    exponentials.

    Args:
        margin: m, a similarity. 0.4 is the default of pytorch-metric-learning, by its docstring the paper's for
            fine-grained retrieval; 0.25 for faces and persons.
        scale: :math:`\gamma`, above 0; 80 for retrieval, 128 for persons, 256 for faces, by the same docstring.

    Raises:
        ValueError: if a setting is no number; if ``scale`` is not positive.

    Config::

        loss=dict(type='CircleLoss', margin=0.4, scale=80.0)
    """

    soft_targets = True

    def __init__(self, margin: float = 0.4, scale: float = 80.0) -> None:
        super().__init__()
        check_numbers(margin=margin)
        check_positive(scale=scale)
        self.margin = margin
        self.scale = scale

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the set of all pairs."""
        positive, negative = pairs.weights(mined)
        similarity, margin = pairs.similarity, self.margin
        fixed = similarity.detach()
        to_positives = -(1 + margin - fixed).relu() * (similarity - 1 + margin)
        to_negatives = (fixed + margin).relu() * (similarity - margin)
        both = log_sum_exp(self.scale * to_positives, positive)
        both = both + log_sum_exp(self.scale * to_negatives, negative)
        # Anchors without a positive or a negative have -inf here, and so a loss of 0.
        return softplus(both).sum() / (both.detach() > float('-inf')).sum().clamp_min(1)
