"""Proxy-Anchor loss."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from mmdml.registry import MODELS

from .checks import check_positive
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
        check_positive(alpha=alpha)
        self.alpha = alpha
        self.margin = margin

    def score(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """``(R, C)`` cosines and ``(R,)`` class ids -> ``(R,)``, the batch's value for every row."""
        own = labels[:, None] == torch.arange(cosine.shape[1], device=labels.device)
        pull = _log_one_plus_sum(-self.alpha * (cosine - self.margin), own)
        push = _log_one_plus_sum(self.alpha * (cosine + self.margin), ~own)
        # Proxies without rows have a pull of ln 1 = 0.
        value = pull.sum() / own.any(0).sum().clamp_min(1) + push.mean()
        return value.expand(len(labels))


def _log_one_plus_sum(logits: Tensor, mask: Tensor) -> Tensor:
    """``ln(1 + sum of exp over the masked rows)`` of each column: ``(R, C)`` and ``(R, C)`` bool -> ``(C,)``."""
    return pad(logits.masked_fill(~mask, float('-inf')), (0, 0, 1, 0)).logsumexp(0)
