"""Large-margin cosine loss, CosFace."""

from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures.checks import check_numbers, check_positive

from .softmax_proxy_loss import SoftmaxProxyLoss


@MODELS.register_module()
class CosFaceLoss(SoftmaxProxyLoss):
    r"""CosFace: a softmax over scaled cosines, of which that to the own proxy is lowered by a margin.

    Wang et al., *CosFace: Large Margin Cosine Loss for Deep Face Recognition*, CVPR 2018, equation 4. With unit rows x
    and proxies p,

    .. math:: L = -\operatorname{mean}_x \ln
        \frac{e^{s (x^T p_y - m)}}{e^{s (x^T p_y - m)} + \sum_{z \neq y} e^{s x^T p_z}}

    Equals ``CosFaceLoss`` of pytorch-metric-learning.

    Args:
        num_classes: number C of training classes.
        embed_dim: width D of the embedding. A ``DivideAndConquerHead`` puts in the width of each slice.
        margin: m >= 0, in units of the cosine.
        scale: s > 0.
        sharded: divide the proxies among the ranks, see :class:`SoftmaxProxyLoss`.

    Raises:
        ValueError: for a value out of range; in the forward pass, what :class:`ProxyLoss` refuses.

    Config::

        loss=dict(type='CosFaceLoss', num_classes=100, embed_dim=512, margin=0.35, scale=64)
    """

    def __init__(
        self, num_classes: int, embed_dim: int, margin: float = 0.35, scale: float = 64.0, sharded: bool = False
    ) -> None:
        super().__init__(num_classes, embed_dim, sharded=sharded)
        check_numbers(margin=margin)
        check_positive(scale=scale)
        if margin < 0:
            raise ValueError(f'margin must be 0 or more, got {margin}')
        self.margin = margin
        self.scale = scale

    def target_cosine(self, target: Tensor) -> Tensor:
        """Cosine less the margin."""
        return target - self.margin
