"""Proxy-Anchor loss."""

import torch
from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures.checks import check_numbers, check_positive

from .pair_sums import log_sum_exp
from .proxy_loss import ProxyLoss


@MODELS.register_module()
class ProxyAnchorLoss(ProxyLoss):
    r"""Proxy-Anchor: each proxy is an anchor that pulls its hardest rows and pushes off the hardest others.

    Kim et al., *Proxy Anchor Loss for Deep Metric Learning*, CVPR 2020, equation 4. With the cosine s of a row x and
    a proxy p, all proxies P, those P+ whose class is in the batch, and the rows :math:`X_p^+` of a proxy's class and
    :math:`X_p^-` of all others,

    .. math:: L = \frac{1}{|P^+|} \sum_{p \in P^+} \ln\Big(1 + \sum_{x \in X_p^+} e^{-\alpha (s(x, p) - \delta)}\Big)
        + \frac{1}{|P|} \sum_{p \in P} \ln\Big(1 + \sum_{x \in X_p^-} e^{\alpha (s(x, p) + \delta)}\Big)

    The value belongs to the batch as a whole, so :meth:`score` returns it for every row. Equals ``ProxyAnchorLoss`` of
    pytorch-metric-learning.

    Args:
        num_classes: number C of training classes, one proxy each.
        embed_dim: width D of the embedding. A ``DivideAndConquerHead`` puts in the width of each slice.
        alpha: > 0, scale; 32 in the paper.
        margin: delta, in units of the cosine; 0.1 in the paper.

    Raises:
        ValueError: for a value out of range; in the forward pass, what :class:`ProxyLoss` refuses.

    Config::

        loss=dict(type='ProxyAnchorLoss', num_classes=100, embed_dim=512, alpha=32, margin=0.1)
    """

    def __init__(self, num_classes: int, embed_dim: int, alpha: float = 32.0, margin: float = 0.1) -> None:
        super().__init__(num_classes, embed_dim)
        check_numbers(margin=margin)
        check_positive(alpha=alpha)
        self.alpha = alpha
        self.margin = margin

    def score(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """``(R, C)`` cosines and ``(R,)`` class ids -> ``(R,)``, the batch's value for every row."""
        own = labels[:, None]
        # A class is summed once for each of its rows, by rows and rows: the list of present classes would have a length
        # for which the host waits.
        is_own = own == labels
        share = is_own.sum(1, dtype=cosine.dtype).reciprocal()
        to_own = cosine.gather(1, own).squeeze(1)
        pull = log_sum_exp((-self.alpha * (to_own - self.margin)).expand(is_own.shape), is_own, plus_one=True)
        is_other = torch.ones_like(cosine).scatter_(1, own, 0)
        push = log_sum_exp(self.alpha * (cosine + self.margin), is_other, 0, plus_one=True)
        value = (pull * share).sum() / share.sum().clamp_min(1) + push.mean()
        return value.expand(len(labels))
