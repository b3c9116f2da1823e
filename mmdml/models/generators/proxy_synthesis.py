"""Proxy synthesis."""

import torch

from mmdml.registry import MODELS
from mmdml.structures import Rows, StepContext
from mmdml.structures.checks import check_numbers, check_positive

from .base import Generator
from .mixtures import mix, mixture_random


@MODELS.register_module()
class ProxySynthesis(Generator):
    r"""Rows of classes between two, which class-based losses compare with proxies that are mixed alike.

    Gu et al., *Proxy Synthesis: Learning with Synthetic Classes for Deep Metric Learning*, AAAI 2021, equations 4 and
    5, in the form of the authors' code. With one :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)` a step, and a row
    j of another class for each row i,

    .. math:: \tilde u = \lambda u_i + (1 - \lambda) u_j, \qquad \tilde p = \lambda p_{y_i} + (1 - \lambda) p_{y_j}

    of which the second is made by :class:`~mmdml.models.losses.ProxyLoss` for any row mixed from two classes: every
    mixture is a class of its own. Losses over pairs take the rows as soft targets. The partner j is drawn at random
    among the rows of other classes; in the authors' code it is the next row of the batch.

    Args:
        ratio: mu in (0, 1], synthetic rows for each real one, at least one a step; 1 in the authors' commands.
        alpha: > 0, of the Beta distribution; 0.4 in the authors' commands.

    Raises:
        ValueError: for a value out of range.

    Config::

        head=dict(sources=dict(synthesis=dict(type='ProxySynthesis', ratio=1.0, alpha=0.4)))
    """

    def __init__(self, ratio: float = 1.0, alpha: float = 0.4) -> None:
        super().__init__()
        check_numbers(ratio=ratio)
        if not 0 < ratio <= 1:
            raise ValueError(f'ratio must be in (0, 1], got {ratio}')
        check_positive(alpha=alpha)
        self.ratio = ratio
        self.alpha = alpha

    def forward(self, anchors: Rows, step: StepContext) -> Rows | None:
        """``R`` real rows -> up to ``ratio * R`` mixtures; None for rows of one class.

        Args:
            anchors: real rows.
            step: seeds partners and share; the learner decides which lengths count.
        """
        random, device = mixture_random(step.progress), anchors.labels.device
        number = len(anchors)
        if not number:
            return None
        chosen = random.permutation(number)[: max(round(self.ratio * number), 1)]
        first = torch.from_numpy(chosen).to(device, non_blocking=True)
        keys = torch.from_numpy(random.random((len(first), number))).to(device, non_blocking=True)
        # Keys are at least 0: a row whose best key is below has no partner.
        best, second = keys.masked_fill(anchors.labels[first][:, None] == anchors.labels, -1).max(1)
        kept = (best >= 0).nonzero().squeeze(1)
        if not len(kept):
            return None
        first, second = first[kept], second[kept]
        share = torch.full_like(best[kept], random.beta(self.alpha, self.alpha), dtype=torch.float32)
        return mix(anchors, first, second, share, step)
