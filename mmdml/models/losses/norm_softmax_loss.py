"""Normalized softmax loss."""

from mmdml.registry import MODELS
from mmdml.structures.checks import check_positive

from .softmax_proxy_loss import SoftmaxProxyLoss


@MODELS.register_module()
class NormSoftmaxLoss(SoftmaxProxyLoss):
    r"""Normalized softmax: a classifier without bias whose inputs and weights have length 1.

    Zhai and Wu, *Classification is a Strong Baseline for Deep Metric Learning*, BMVC 2019, section 3.1. With unit rows
    x and proxies p,

    .. math:: L = -\operatorname{mean}_x \ln \frac{e^{x^T p_y / T}}{\sum_z e^{x^T p_z / T}}

    The paper also normalizes the pooled features by a layer norm without parameters, which belongs to the neck.
    Equals ``NormalizedSoftmaxLoss`` of pytorch-metric-learning.

    Args:
        num_classes: number C of training classes.
        embed_dim: width D of the embedding. A ``DivideAndConquerHead`` puts in the width of each slice.
        temperature: T > 0; 0.05 in the paper.
        sharded: divide the proxies among the ranks, see :class:`SoftmaxProxyLoss`.

    Raises:
        ValueError: for a value out of range; in the forward pass, what :class:`ProxyLoss` refuses.

    Config::

        loss=dict(type='NormSoftmaxLoss', num_classes=100, embed_dim=512, temperature=0.05)
    """

    def __init__(self, num_classes: int, embed_dim: int, temperature: float = 0.05, sharded: bool = False) -> None:
        super().__init__(num_classes, embed_dim, sharded=sharded)
        check_positive(temperature=temperature)
        self.temperature = temperature
        self.scale = 1 / temperature
