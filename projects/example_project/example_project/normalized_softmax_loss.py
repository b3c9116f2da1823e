"""Normalized softmax loss."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from mmdml.models.losses import ProxyLoss
from mmdml.registry import MODELS


@MODELS.register_module()
class NormalizedSoftmaxLoss(ProxyLoss):
    r"""Classification by the cosine to one proxy a class.

    Zhai and Wu, BMVC 2019 (arXiv 1811.12649), Eq. 3. With unit rows x and unit proxies p,

    .. math:: L = -\operatorname{mean}_x \ln \frac{e^{x^T p_y / \sigma}}{\sum_z e^{x^T p_z / \sigma}}

    Args:
        num_classes: number C of training classes.
        embed_dim: width D of the embedding.
        temperature: :math:`\sigma`, above 0.

    Raises:
        ValueError: if ``temperature`` is not positive; else as :class:`~mmdml.models.losses.ProxyLoss`.

    Config::

        loss=dict(type='NormalizedSoftmaxLoss', num_classes=100, embed_dim=512)
    """

    def __init__(self, num_classes: int, embed_dim: int, temperature: float = 0.05) -> None:
        super().__init__(num_classes, embed_dim)
        if temperature <= 0:
            raise ValueError(f'temperature must be positive, got {temperature}')
        self.temperature = temperature

    def score(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """``(R, C)`` cosines and ``(R,)`` class ids -> ``(R,)``."""
        return cross_entropy(cosine / self.temperature, labels, reduction='none')
