"""HIST: hypergraph-induced semantic tuplet loss."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, leaky_relu, linear

from mmdml.registry import MODELS
from mmdml.structures import PairBatch
from mmdml.structures.checks import check_numbers, check_positive
from mmdml.utils.numbers import check_counts

from .proxy_loss import ProxyLoss


@MODELS.register_module()
class HISTLoss(ProxyLoss):
    r"""Learned distributions of classes, and a hypergraph network over the batch that classifies its rows.

    Lim et al., *Hypergraph-Induced Semantic Tuplet Loss for Deep Metric Learning*, CVPR 2022, in the form of the
    authors' code. A class has a mean :math:`\mu_c`, a direction, and variances :math:`e^{\rho_c}`,
    :math:`\rho_c = \min(\max(r_c, 0), 6)`. With :math:`d_{xc} = \sum_i (x_i - \mu_{ci})^2 e^{-\rho_{ci}}`,

    .. math:: L = -\operatorname{mean}_x \ln \frac{e^{-\tau d_{xy}}}{\sum_c e^{-\tau d_{xc}}}
        + \lambda \operatorname{CE}\big(G \, \sigma(\operatorname{BN}(G X \Theta_1)) \, \Theta_2\big)

    The hyperedges of :math:`G = D_v^{-1/2} H D_e^{-1} H^T D_v^{-1/2}` are the classes of the batch; H is 1 for rows of
    the class and :math:`e^{-\alpha d}` for the others, D_v and D_e its sums over rows and columns; sigma is a leaky
    ReLU of slope 0.1. Batches train it, so BN has no running statistics here.

    Args:
        num_classes: number C of training classes.
        embed_dim: width D of the embedding. A ``DivideAndConquerHead`` puts in the width of each slice.
        tau: > 0, scale of the first softmax; 32 in the paper's commands (16 on SOP).
        alpha: > 0, how fast membership of other classes falls; 1.1 on CUB, 0.9 on Cars, 2 on SOP.
        weight: lambda >= 0, of the second term; 1 in the paper's commands.
        hidden: width of the network, at least 1; 512 in the paper's commands.

    Raises:
        ValueError: for a value out of range; in the forward pass, what :class:`ProxyLoss` refuses.

    Config::

        loss=dict(type='HISTLoss', num_classes=100, embed_dim=512, tau=32.0, alpha=1.1)
    """

    synthesizes_proxies = False
    wide_parameters = ('log_variances', 'inner.weight')

    def __init__(
        self,
        num_classes: int,
        embed_dim: int,
        tau: float = 32.0,
        alpha: float = 0.9,
        weight: float = 1.0,
        hidden: int = 512,
    ) -> None:
        super().__init__(num_classes, embed_dim)
        check_numbers(weight=weight)
        check_positive(tau=tau, alpha=alpha, hidden=hidden)
        check_counts(hidden=hidden)
        if weight < 0:
            raise ValueError(f'weight must be 0 or more, got {weight}')
        self.tau = tau
        self.alpha = alpha
        self.weight = weight
        self.log_variances = nn.Parameter(torch.randn(num_classes, embed_dim) * (2 / num_classes) ** 0.5)
        self.inner = nn.Linear(embed_dim, hidden)
        self.norm_scale = nn.Parameter(torch.ones(hidden))
        self.norm_shift = nn.Parameter(torch.zeros(hidden))
        self.outer = nn.Linear(hidden, num_classes)

    def score(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """``(R,)`` zeros: cosines alone do not say the distance to a distribution."""
        return 0 * cosine.sum(1)

    def further_terms(self, pairs: PairBatch, unit_proxies: Tensor) -> Tensor:
        """Both terms, over all candidates."""
        rows, labels = pairs.candidates.embeddings.to(unit_proxies.dtype), pairs.candidates.labels
        number = max(len(rows), 1)
        distance = self._distance(rows, unit_proxies)
        loss = cross_entropy(-self.tau * distance, labels, reduction='sum') / number
        graph = self._propagation(distance, labels)
        # Rows may be more precise than the parameters.
        inner, outer, (scale, shift) = (
            [parameter.to(rows.dtype) for parameter in parameters]
            for parameters in (self.inner.parameters(), self.outer.parameters(), (self.norm_scale, self.norm_shift))
        )
        hidden = graph @ linear(rows, *inner)
        centered = hidden - hidden.sum(0) / number
        hidden = centered * (centered.square().sum(0) / number + 1e-5).rsqrt() * scale + shift
        logits = graph @ linear(leaky_relu(hidden, 0.1), *outer)
        return loss + self.weight * cross_entropy(logits, labels, reduction='sum') / number

    def _distance(self, rows: Tensor, means: Tensor) -> Tensor:
        """``(R, C)`` squared Mahalanobis distances, by products: no ``(R, C, D)`` tensor."""
        precision = (-self.log_variances.to(rows.dtype).clamp(0, 6)).exp()
        products = rows.square() @ precision.t() - 2 * rows @ (means * precision).t()
        return (products + (means.square() * precision).sum(1)).relu()

    def _propagation(self, distance: Tensor, labels: Tensor) -> Tensor:
        """``(R, R)`` matrix G."""
        present = labels.unique()
        own = (labels[:, None] == present[None, :]).to(distance)
        incidence = own + (1 - own) * (-self.alpha * distance[:, present]).exp()
        scaled = incidence * incidence.sum(1, keepdim=True).rsqrt()
        return scaled / incidence.sum(0) @ scaled.t()
