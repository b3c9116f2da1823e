"""Mean-field contrastive loss."""

from torch import Tensor
from torch.nn.functional import one_hot

from mmdml.registry import MODELS
from mmdml.structures import PairBatch
from mmdml.structures.checks import check_numbers

from .proxy_loss import ProxyLoss


@MODELS.register_module()
class MeanFieldContrastiveLoss(ProxyLoss):
    r"""Contrastive loss of rows against the mean field of each class in place of the other rows.

    Furusawa, *Mean Field Theory in Deep Metric Learning*, ICLR 2024, arXiv 2306.15368, in the form of the author's
    code. A field M_c, a direction, is learned for each class. With :math:`d = 1 - s` of a row or a field and a field,

    .. math:: L = \operatorname{mean}_x \Big( [d_{xy} - m_p]_+ + \sum_{c \neq y} [m_n - d_{xc}]_+ \Big)
        + \frac{\lambda}{C} \sum_c \sum_{c' \neq c} [m_n - d_{cc'}]_+^2

    Args:
        num_classes: number C of training classes, one field each.
        embed_dim: width D of the embedding. A ``DivideAndConquerHead`` puts in the width of each slice.
        pos_margin: m_p, a cosine distance in [0, 2]; 0.02 in the author's code.
        neg_margin: m_n, a cosine distance in [0, 2]; 0.3 in the author's code.
        field_weight: lambda >= 0, weight of the term between fields; 0 in the author's commands for
            :class:`MeanFieldClassWiseMultiSimilarityLoss`, for this loss there are none.

    Raises:
        ValueError: for a value out of range; in the forward pass, what :class:`ProxyLoss` refuses.

    Config::

        loss=dict(type='MeanFieldContrastiveLoss', num_classes=100, embed_dim=512, pos_margin=0.02, neg_margin=0.3)
    """

    def __init__(
        self,
        num_classes: int,
        embed_dim: int,
        pos_margin: float = 0.02,
        neg_margin: float = 0.3,
        field_weight: float = 0.0,
    ) -> None:
        super().__init__(num_classes, embed_dim)
        check_numbers(pos_margin=pos_margin, neg_margin=neg_margin, field_weight=field_weight)
        for name, margin in dict(pos_margin=pos_margin, neg_margin=neg_margin).items():
            if not 0 <= margin <= 2:
                raise ValueError(f'{name} is a cosine distance, in [0, 2], got {margin}')
        if field_weight < 0:
            raise ValueError(f'field_weight must be 0 or more, got {field_weight}')
        self.pos_margin = pos_margin
        self.neg_margin = neg_margin
        self.field_weight = field_weight

    def score(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """``(R, C)`` cosines and ``(R,)`` class ids -> ``(R,)``."""
        own = one_hot(labels, cosine.shape[1])
        pull, push = (1 - cosine - self.pos_margin).relu(), (self.neg_margin - 1 + cosine).relu()
        return (own * pull + (1 - own) * push).sum(1)

    def further_terms(self, pairs: PairBatch, unit_proxies: Tensor) -> Tensor:
        """Repulsion between the fields."""
        if self.field_weight == 0:
            return super().further_terms(pairs, unit_proxies)
        near = (self.neg_margin - 1 + unit_proxies @ unit_proxies.t()).relu().square()
        return self.field_weight * (near.sum() - near.trace()) / self.num_classes
