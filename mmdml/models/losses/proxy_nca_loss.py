"""Proxy-NCA loss."""

from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures.checks import check_numbers

from .proxy_loss import ProxyLoss


@MODELS.register_module()
class ProxyNCALoss(ProxyLoss):
    r"""Proxy-NCA: every row near the proxy of its class, far from all others.

    Movshovitz-Attias et al., ICCV 2017; reported on CUB by Sanakoyeu et al., CVPR 2019. With rows x and proxies p of
    length ``scale``,

    .. math:: L = -\operatorname{mean}_x \ln
        \frac{e^{-\lVert x - p_y \rVert^2}}{\sum_{z \neq y} e^{-\lVert x - p_z \rVert^2}}

    The own proxy is not in the denominator, so the loss may be negative. All proxies stay in the sum, those of classes
    that a learner never sees included.

    Args:
        num_classes: number C of training classes, 2 or more; one proxy each.
        embed_dim: width D of the embedding. A ``DivideAndConquerHead`` puts in the width of each slice.
        scale: length of rows and proxies, above 0; the logits are ``2 * scale**2`` times the cosine similarity.

    Raises:
        ValueError: for a value out of range; in the forward pass, what :class:`ProxyLoss` refuses.

    Config::

        loss=dict(type='ProxyNCALoss', num_classes=100, embed_dim=512)
    """

    def __init__(self, num_classes: int, embed_dim: int, scale: float = 3.0) -> None:
        super().__init__(num_classes, embed_dim)
        check_numbers(scale=scale)
        if num_classes < 2:
            raise ValueError(f'num_classes must be 2 or more, for there to be another proxy, got {num_classes}')
        if scale <= 0:
            raise ValueError(f'scale must be positive, got {scale}')
        self.scale = scale

    def score(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """``(R, C)`` cosines and ``(R,)`` class ids -> ``(R,)``."""
        # The squared distance is scale^2 (2 - 2 cos); its constant cancels in the quotient.
        logits = 2 * self.scale**2 * cosine
        own = labels[:, None]
        others = logits.scatter(1, own, float('-inf')).logsumexp(1)
        return others - logits.gather(1, own).squeeze(1)
