"""SoftTriple loss."""

from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import PairBatch
from mmdml.structures.checks import check_numbers, check_positive

from .softmax_proxy_loss import SoftmaxProxyLoss


@MODELS.register_module()
class SoftTripleLoss(SoftmaxProxyLoss):
    r"""SoftTriple: a softmax over classes of several centers each, which a regularizer merges if they are not needed.

    Qian et al., *SoftTriple Loss: Deep Metric Learning Without Triplet Sampling*, ICCV 2019, equations 6 to 8. With
    unit rows x and centers :math:`w_c^1 \dots w_c^K` of class c,

    .. math:: S_c = \sum_k \frac{e^{x^T w_c^k / \gamma}}{\sum_l e^{x^T w_c^l / \gamma}} x^T w_c^k, \qquad
        L = -\operatorname{mean}_x \ln
        \frac{e^{\lambda (S_y - \delta)}}{e^{\lambda (S_y - \delta)} + \sum_{z \neq y} e^{\lambda S_z}}
        + \frac{\tau}{C K (K - 1)} \sum_c \sum_{k < l} \sqrt{2 - 2 {w_c^k}^T w_c^l}

    Without the regularizer (tau = 0) it equals ``SoftTripleLoss`` of pytorch-metric-learning.

    Args:
        num_classes: number C of training classes.
        embed_dim: width D of the embedding. A ``DivideAndConquerHead`` puts in the width of each slice.
        centers_per_class: K; 10 in the paper (2 on SOP).
        scale: lambda > 0; 20 in the paper.
        gamma: > 0, temperature among the centers of a class; 0.1 in the paper.
        margin: delta >= 0; 0.01 in the paper.
        tau: >= 0, weight of the regularizer; 0.2 in the paper.
        sharded: divide the proxies among the ranks, see :class:`SoftmaxProxyLoss`.

    Raises:
        ValueError: for a value out of range; in the forward pass, what :class:`ProxyLoss` refuses.

    Config::

        loss=dict(type='SoftTripleLoss', num_classes=100, embed_dim=512, centers_per_class=10, tau=0.2)
    """

    def __init__(
        self,
        num_classes: int,
        embed_dim: int,
        centers_per_class: int = 10,
        scale: float = 20.0,
        gamma: float = 0.1,
        margin: float = 0.01,
        tau: float = 0.2,
        sharded: bool = False,
    ) -> None:
        super().__init__(num_classes, embed_dim, proxies_per_class=centers_per_class, sharded=sharded)
        check_numbers(margin=margin, tau=tau)
        check_positive(scale=scale, gamma=gamma)
        for name, value in dict(margin=margin, tau=tau).items():
            if value < 0:
                raise ValueError(f'{name} must be 0 or more, got {value}')
        self.scale = scale
        self.gamma = gamma
        self.margin = margin
        self.tau = tau

    def class_cosines(self, cosine: Tensor) -> Tensor:
        """Relaxed cosines: means over the centers of a class, weighted by their softmax."""
        cosine = cosine.unflatten(1, (-1, self.proxies_per_class))
        return ((cosine / self.gamma).softmax(2) * cosine).sum(2)

    def target_cosine(self, target: Tensor) -> Tensor:
        """Relaxed cosine less the margin."""
        return target - self.margin

    def further_terms(self, pairs: PairBatch, unit_proxies: Tensor) -> Tensor:
        """Regularizer: mean distance of the centers of a class, halved, times tau."""
        number = self.proxies_per_class
        if number == 1 or self.tau == 0:
            return super().further_terms(pairs, unit_proxies)
        centers = unit_proxies.unflatten(0, (-1, number))
        distance = ((2 - 2 * centers @ centers.mT).relu() + 1e-12).sqrt().triu(1)
        return self.tau * self.over_all_classes(distance.sum()) / (self.num_classes * number * (number - 1))
