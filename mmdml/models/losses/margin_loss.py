"""Margin loss."""

import torch
from torch import Tensor, nn

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_numbers
from mmdml.utils.numbers import check_counts

from .base import PairLoss
from .checks import check_class_range

#: How boundaries beta are held: whether they learn, and whether there is one for every class.
_BETA_MODES = {'constant': (False, False), 'global': (True, False), 'class': (True, True)}


@MODELS.register_module()
class MarginLoss(PairLoss):
    r"""Margin loss: positives within a boundary, negatives beyond it, by a margin.

    Wu et al., ICCV 2017, Sec. 4; the loss of both papers on dividing the embedding space (Sanakoyeu et al., CVPR
    2019 and TPAMI 2021). With :math:`D = \sqrt{2 - 2s + 10^{-8}}`, of every mined triplet (a, p, n)

    .. math:: \ell^+ = [D_{ap} - \beta_{y_a} + \alpha]_+, \quad \ell^- = [\beta_{y_a} - D_{an} + \alpha]_+, \qquad
        L = \frac{\sum (\ell^+ + \ell^-) + \nu \sum |\beta_{y_a}|}{\#\{\ell^+ > 0\} + \#\{\ell^- > 0\}}

    and 0 if no term is positive. The terms are those of single pairs, so mined :class:`~mmdml.structures.Pairs` and
    their weights, or all pairs where nothing was mined, fit as well: each pair brings one term and
    :math:`\nu |\beta_{y_a}| / 2`. A pair that was mined twice counts twice, in the sum and in the divisor. A pair
    of soft target t brings t times the one and 1 - t times the other term.

    The boundary belongs to the class of the anchor. A learned one is the parameter ``beta``; exempt it from weight
    decay by ``paramwise_cfg=dict(custom_keys={'.beta': dict(decay_mult=0)})``.

    Args:
        alpha: margin on both sides of the boundary, a distance.
        beta: boundary to start from, a distance in [0, 2].
        beta_mode: 'constant', 'global' (one learned boundary) or 'class' (a learned one for every class).
        num_classes: number of training classes, for ``beta_mode='class'``.
        nu: weight of the penalty on the boundaries. With 0 nothing holds a learned boundary but the pairs.

    Raises:
        ValueError: if a setting is no number; if ``beta_mode`` is unknown, ``num_classes`` is missing, or ``nu`` is
            negative; in the forward pass, if a label has no boundary.

    Config::

        head=dict(loss=dict(type='MarginLoss', alpha=0.2, beta=1.2), miner=dict(type='DistanceWeightedMiner'))
    """

    soft_targets = True

    def __init__(
        self,
        alpha: float = 0.2,
        beta: float = 1.2,
        beta_mode: str = 'constant',
        num_classes: int | None = None,
        nu: float = 0.0,
    ) -> None:
        super().__init__()
        check_numbers(alpha=alpha, beta=beta, nu=nu)
        if beta_mode not in _BETA_MODES:
            raise ValueError(f'beta_mode must be one of {sorted(_BETA_MODES)}, got {beta_mode!r}')
        learned, per_class = _BETA_MODES[beta_mode]
        if per_class and not num_classes:
            raise ValueError(f"beta_mode='class' needs num_classes, the number of training classes, got {num_classes}")
        if num_classes is not None:
            check_numbers(num_classes=num_classes)
            check_counts(num_classes=num_classes)
        if nu < 0:
            raise ValueError(f'nu must not be negative, got {nu}')
        self.alpha = alpha
        self.beta_mode = beta_mode
        self.nu = nu
        values = torch.full((num_classes if per_class else 1,), float(beta))
        if learned:
            self.beta = nn.Parameter(values)
        else:
            self.register_buffer('beta', values, persistent=False)

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the set of all pairs."""
        # The small number keeps the gradient finite where two rows are equal.
        distance = pairs.distance(eps=1e-8)
        beta = self._beta_of(pairs.anchors.labels)[:, None].to(distance.dtype)
        positive, negative = pairs.weights(mined)
        too_far = (self.alpha + (distance - beta)).relu()
        too_near = (self.alpha - (distance - beta)).relu()
        count = (positive * (too_far > 0) + negative * (too_near > 0)).sum()
        penalty = 0.5 * self.nu * beta.abs() * (positive + negative)
        total = (positive * too_far + negative * too_near + penalty).sum()
        return total / count.masked_fill(count == 0, float('inf'))

    def _beta_of(self, labels: Tensor) -> Tensor:
        if self.beta_mode != 'class':
            return self.beta.expand(len(labels))
        check_class_range(labels, len(self.beta), "MarginLoss with beta_mode='class'")
        return self.beta[labels]
