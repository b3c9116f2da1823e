"""ProxyNCA++ loss."""

from mmdml.registry import MODELS
from mmdml.structures.checks import check_positive

from .softmax_proxy_loss import SoftmaxProxyLoss


@MODELS.register_module()
class ProxyNCAPlusPlusLoss(SoftmaxProxyLoss):
    r"""ProxyNCA++: probability that a row is assigned to the proxy of its class, at a low temperature.

    Teh, DeVries and Taylor, ECCV 2020, section 3. With unit rows x and proxies p,

    .. math:: L = -\operatorname{mean}_x \ln
        \frac{e^{-\lVert x - p_y \rVert^2 / T}}{\sum_z e^{-\lVert x - p_z \rVert^2 / T}}

    Unlike in :class:`ProxyNCALoss`, the own proxy is in the denominator, so the loss is above 0. It is
    :class:`NormSoftmaxLoss` at half the temperature. The paper's other changes are parts of a config: max pooling,
    balanced batches, and proxies that move faster than the network. Equals ``ProxyNCALoss`` of pytorch-metric-learning
    with ``softmax_scale = 1 / T``.

    Args:
        num_classes: number C of training classes.
        embed_dim: width D of the embedding. A ``DivideAndConquerHead`` puts in the width of each slice.
        temperature: T > 0; 1/9 in the paper, which is unit vectors times 3.
        sharded: divide the proxies among the ranks, see :class:`SoftmaxProxyLoss`.

    Raises:
        ValueError: for a value out of range; in the forward pass, what :class:`ProxyLoss` refuses.

    Config::

        loss=dict(type='ProxyNCAPlusPlusLoss', num_classes=100, embed_dim=512, temperature=1 / 9)
    """

    def __init__(self, num_classes: int, embed_dim: int, temperature: float = 1 / 9, sharded: bool = False) -> None:
        super().__init__(num_classes, embed_dim, sharded=sharded)
        check_positive(temperature=temperature)
        self.temperature = temperature
        # The squared distance is 2 - 2 cos; its constant cancels in the quotient.
        self.scale = 2 / temperature
