"""Metrix: mixup for metric learning."""

import torch
from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import Rows, StepContext
from mmdml.structures.checks import check_positive
from mmdml.utils.numbers import check_counts

from .base import Generator
from .mixtures import mix, mixture_random
from .rows import directions, scale_of


@MODELS.register_module()
class Metrix(Generator):
    r"""Mixtures of rows of two classes as candidates that are partly positives: metric mix.

    Venkataramanan et al., *It Takes Two to Tango: Mixup for Deep Metric Learning*, ICLR 2022, section 3.3, for
    embeddings. With the unit rows u of two images of different classes, :math:`\lambda \sim \mathrm{Beta}(\alpha,
    \alpha)` for each,

    .. math:: v = \lambda u_i + (1 - \lambda) u_j

    is a positive by lambda for anchors of the class of i, by 1 - lambda for those of the class of j, and a negative of
    the rest; its parents form no pair with it. Losses take this as soft targets, class-based ones as a class between
    two, whose proxies are mixed alike.

    In the paper the loss over mixtures is a second term of weight 0.4 (0.3 to 0.4 in the authors' code), with
    mixtures of an anchor's own positives and negatives; here real and mixed candidates meet in one loss.

    Args:
        num_partners: mixtures of each row with rows of other classes, at least 1. The paper's number of hard negatives
            is not confirmed.
        partners: 'nearest', the most similar rows of other classes, or 'random'.
        alpha: > 0, of the Beta distribution; 2 in the authors' code.

    Raises:
        ValueError: for a value out of range.

    Config::

        head=dict(sources=dict(metrix=dict(type='Metrix', num_partners=3, alpha=2.0)))
    """

    def __init__(self, num_partners: int = 3, partners: str = 'nearest', alpha: float = 2.0) -> None:
        super().__init__()
        check_counts(num_partners=num_partners)
        if partners not in ('nearest', 'random'):
            raise ValueError(f"partners must be 'nearest' or 'random', got {partners!r}")
        check_positive(alpha=alpha)
        self.num_partners = num_partners
        self.partners = partners
        self.alpha = alpha

    def forward(self, anchors: Rows, step: StepContext) -> Rows | None:
        """``R`` real rows -> up to ``R * num_partners`` mixtures; None for rows of one class.

        Args:
            anchors: real rows.
            step: seeds partners and shares; the learner decides which lengths count.
        """
        random = mixture_random(step.progress)
        preference = self._preference(anchors, step, random)
        number = min(self.num_partners, len(anchors))
        found, partner = preference.topk(number, dim=1)
        first, place = (found > -torch.inf).nonzero(as_tuple=True)
        if not len(first):
            return None
        share = torch.from_numpy(random.beta(self.alpha, self.alpha, (len(anchors), number)).astype('float32'))
        return mix(anchors, first, partner[first, place], share.to(first.device, non_blocking=True)[first, place], step)

    @torch.no_grad()
    def _preference(self, anchors: Rows, step: StepContext, random: object) -> Tensor:
        """``(R, R)``, larger is preferred, -inf for rows of the same class."""
        if self.partners == 'random':
            drawn = torch.from_numpy(random.random((len(anchors),) * 2))
            preference = drawn.to(anchors.labels.device, non_blocking=True)
        else:
            unit = directions(anchors, step)[0] * scale_of(anchors.embeddings, step)
            preference = unit @ unit.t()
        return preference.masked_fill(anchors.labels[:, None] == anchors.labels[None, :], -torch.inf)
