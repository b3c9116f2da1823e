"""Mean-field class-wise multi-similarity loss."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mmdml.registry import MODELS
from mmdml.structures import PairBatch
from mmdml.structures.checks import check_numbers, check_positive

from .proxy_loss import ProxyLoss

#: Largest exponent of an exponential that fp32 holds, with room for sums.
_LARGEST = 80


@MODELS.register_module()
class MeanFieldClassWiseMultiSimilarityLoss(ProxyLoss):
    r"""Multi-similarity of classes, whose rows meet the mean field of each class in place of the other rows.

    Furusawa, *Mean Field Theory in Deep Metric Learning*, ICLR 2024, arXiv 2306.15368, in the form of the author's
    code. A field, a direction, is learned for each class. With the mean over the rows x of class c in the batch,

    .. math:: p_c = \operatorname{mean}_{x \in c} e^{-\alpha (s_{xc} - b)}, \qquad
        n_{cz} = \operatorname{mean}_{x \in c} e^{\beta (s_{xz} - b)}

    (0 for classes that the batch lacks) and the set B of classes that it has,

    .. math:: L = \frac{1}{\alpha |B|} \sum_{c \in B} \ln(1 + p_c)
        + \frac{1}{2 \beta |B|} \sum_c \sum_{z \neq c} \ln(1 + n_{cz} + n_{zc})
        + \frac{\lambda}{C} \sum_c \sum_{z \neq c} \Big( \frac{1}{\beta} \ln(1 + e^{\beta (s_{cz} - b)}) \Big)^2

    The value belongs to the batch as a whole, so :meth:`score` returns it for every row.

    Args:
        num_classes: number C of training classes, one field each.
        embed_dim: width D of the embedding. A ``DivideAndConquerHead`` puts in the width of each slice.
        alpha: > 0, sharpness for a class's own rows; 0.01 in the author's commands.
        beta: > 0, sharpness for the others; 80 in the author's commands.
        base: b, a cosine that separates near from far; 0.8 in the author's commands.
        field_weight: lambda >= 0, weight of the term between fields; 0 in the author's commands.

    Raises:
        ValueError: for a value out of range, or an exponential that would overflow; in the forward pass, what
            :class:`ProxyLoss` refuses.

    Config::

        loss=dict(type='MeanFieldClassWiseMultiSimilarityLoss', num_classes=100, embed_dim=512, alpha=0.01, beta=80.0)
    """

    def __init__(
        self,
        num_classes: int,
        embed_dim: int,
        alpha: float = 0.01,
        beta: float = 80.0,
        base: float = 0.8,
        field_weight: float = 0.0,
    ) -> None:
        super().__init__(num_classes, embed_dim)
        check_numbers(base=base, field_weight=field_weight)
        check_positive(alpha=alpha, beta=beta)
        for name, exponent in dict(alpha=alpha * (1 + base), beta=beta * (1 - base)).items():
            if exponent > _LARGEST:
                raise ValueError(f'{name} with base={base} gives exponentials up to e^{exponent:g}; lower {name}')
        if field_weight < 0:
            raise ValueError(f'field_weight must be 0 or more, got {field_weight}')
        self.alpha = alpha
        self.beta = beta
        self.base = base
        self.field_weight = field_weight

    def score(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """``(R, C)`` cosines and ``(R,)`` class ids -> ``(R,)``, the batch's value for every row."""
        present = labels.unique()
        share = (labels[:, None] == present[None, :]).to(cosine)
        share = share / share.sum(0).clamp_min(1)
        pull = share.t() @ (-self.alpha * (cosine - self.base)).exp()
        push = share.t() @ (self.beta * (cosine - self.base)).exp()
        # Of two classes that are both there, each adds to what the other gives.
        push = push.index_add(1, present, push[:, present].t())
        weight = torch.full_like(push, 2.0).index_fill(1, present, 1.0).scatter(1, present[:, None], 0.0)
        pulls = pull.gather(1, present[:, None]).log1p().sum() / self.alpha
        pushes = (weight * push.log1p()).sum() / (2 * self.beta)
        return ((pulls + pushes) / max(len(present), 1)).expand(len(labels))

    def further_terms(self, pairs: PairBatch, unit_proxies: Tensor) -> Tensor:
        """Repulsion between the fields."""
        if self.field_weight == 0:
            return super().further_terms(pairs, unit_proxies)
        near = softplus(unit_proxies @ unit_proxies.t() - self.base, beta=self.beta).square()
        return self.field_weight * (near.sum() - near.trace()) / self.num_classes
