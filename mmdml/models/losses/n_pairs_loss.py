"""N-pairs loss."""

import torch
from torch import Tensor, nn

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_numbers

from .base import PairLoss
from .pair_sums import log_sum_exp


@MODELS.register_module()
class NPairsLoss(PairLoss):
    r"""N-pairs loss: a softmax over the candidates that every positive should win.

    Sohn, NIPS 2016, in the form of Sanakoyeu et al., TPAMI 2021, for any number of positives (the form that became
    known as the supervised contrastive loss). Over the anchors a that have a positive,

    .. math:: L = -\operatorname{mean}_a \frac{1}{|P_a|} \sum_{p \in P_a}
        \ln \frac{e^{\gamma s_{ap}}}{\sum_{j \in P_a \cup N_a} e^{\gamma s_{aj}}}

    Mined tuples, if given, replace :math:`P_a` and :math:`N_a`; their weights multiply the exponentials in the sum
    and the positives' shares of the mean, as soft targets do.

    The TPAMI release trains :math:`\gamma` from 1 with a learning rate of 1 and no weight decay:
    ``paramwise_cfg=dict(custom_keys={'.scale': dict(lr_mult=1 / lr, decay_mult=0)})``. Such steps can cross
    zero, and with a negative :math:`\gamma` the loss would reward the opposite of what it is for; so :math:`\gamma` is
    the absolute value of the parameter.

    Args:
        scale: :math:`\gamma`, the inverse temperature, or where it starts from.
        learn_scale: make it a parameter.

    Raises:
        ValueError: if a setting is no number; if ``scale`` is not positive.

    Config::

        loss=dict(type='NPairsLoss', scale=1.0, learn_scale=True)
    """

    soft_targets = True

    #: Parameters of which only the absolute value counts, which is what learners that are joined have the mean of.
    unsigned_parameters = ('scale',)

    def __init__(self, scale: float = 1.0, learn_scale: bool = True) -> None:
        super().__init__()
        check_numbers(scale=scale)
        if scale <= 0:
            raise ValueError(f'scale must be positive, got {scale}')
        self.learn_scale = learn_scale
        if learn_scale:
            self.scale = nn.Parameter(torch.tensor(float(scale)))
        else:
            self.register_buffer('scale', torch.tensor(float(scale)), persistent=False)

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the set of all pairs."""
        positive, negative = pairs.weights(mined)
        number = positive.sum(1, keepdim=True)
        has_positive = number > 0
        logits = self.scale.abs() * pairs.similarity
        log_sum = log_sum_exp(logits, positive + negative)
        share = positive / number.masked_fill(~has_positive, 1.0)
        per_anchor = (log_sum - (share * logits).sum(1)).masked_fill(~has_positive.squeeze(1), 0.0)
        return per_anchor.sum() / has_positive.sum().clamp_min(1)
