"""Potential-field loss (PFML)."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mmdml.registry import MODELS
from mmdml.structures import PairBatch
from mmdml.structures.checks import check_positive

from .pair_sums import in_blocks
from .proxy_loss import ProxyLoss

#: Softening of distances, as a share of delta: it bounds the force between rows of two classes at one place.
_SOFTENING = 0.1


@MODELS.register_module()
class PotentialFieldLoss(ProxyLoss):
    r"""Potential energy of rows and proxies that attract their class and repel the others, less the farther they are.

    PFML: Bhatnagar and Ahuja, *Potential Field Based Deep Metric Learning*, CVPR 2025, arXiv 2405.18560, section 3.2.
    With the distance d of two points, divided by the constant :math:`\delta^{-\alpha}` of the paper,

    .. math:: \psi^+(d) = -\Big(\frac{\delta}{\max(d, \delta)}\Big)^\alpha, \qquad
        \psi^-(d) = \Big(\frac{\delta}{\min(d, \delta)}\Big)^\alpha

    for two points of one class and of two: the attraction ends within :math:`\delta`, the repulsion beyond it. The
    energy is summed over all ordered pairs of points, of which there are rows and proxies, and divided by the number
    of rows:

    .. math:: L = \operatorname{mean}_a \sum_{j \in P_a \cup N_a} \psi(d_{aj}) + 2 \operatorname{mean}_x \sum_p
        \psi(d_{xp}) + \frac{1}{R} \sum_p \sum_{q \neq p} \psi(d_{pq})

    Anchors a meet candidates in the first term; all candidates x are rows in the second. Distances are
    :math:`\sqrt{2 - 2s + (\delta / 10)^2}`, so that the force between coinciding rows of two classes is finite; the
    paper does not say what is done there. Formula and values are those of two third parties who restate the paper,
    not confirmed by code of the authors, of whom none is public.

    The slope :math:`\partial \psi^- / \partial s` reaches :math:`10^{\alpha + 2} \alpha / \delta^2`, :math:`10^8` by
    default, which fp16 cannot hold: rows have to be normalized in fp32, as every neck does also under ``--amp``. Behind
    the normalization only the part along the sphere is left, which is small between near-duplicates.

    Args:
        num_classes: number C of training classes.
        embed_dim: width D of the embedding. A ``DivideAndConquerHead`` puts in the width of each slice.
        proxies_per_class: M; 15 in the paper (2 on SOP). All C M proxies are compared with each other.
        alpha: > 0, how fast the field decays; 3 to 6 were best in the paper.
        delta: > 0, a distance in (0, 2]; 0.1 to 0.3 in the paper.

    Raises:
        ValueError: for a value out of range; in the forward pass, what :class:`ProxyLoss` refuses.

    Config::

        loss=dict(type='PotentialFieldLoss', num_classes=100, embed_dim=512, proxies_per_class=15, alpha=4, delta=0.2)
    """

    def __init__(
        self, num_classes: int, embed_dim: int, proxies_per_class: int = 15, alpha: float = 4.0, delta: float = 0.2
    ) -> None:
        super().__init__(num_classes, embed_dim, proxies_per_class)
        check_positive(alpha=alpha, delta=delta)
        self.alpha = alpha
        self.delta = delta

    def score(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """``(R, C * M)`` cosines and ``(R,)`` class ids -> ``(R,)``: rows in the field of proxies, and the reverse."""
        own = one_hot(labels, cosine.shape[1] // self.proxies_per_class).repeat_interleave(self.proxies_per_class, 1)
        return 2 * self._potential(cosine, own, 1 - own).sum(1)

    def further_terms(self, pairs: PairBatch, unit_proxies: Tensor) -> Tensor:
        """Energy of anchors among candidates and of proxies among proxies."""
        positive, negative = pairs.weights()
        energy = self._potential(pairs.similarity, positive, negative).sum() / max(len(pairs.anchors), 1)
        numbers = torch.arange(len(unit_proxies), device=unit_proxies.device)

        def among_proxies(block: Tensor) -> Tensor:
            same = (block[:, None] // self.proxies_per_class) == (numbers[None, :] // self.proxies_per_class)
            others = block[:, None] != numbers[None, :]
            return self._potential(unit_proxies[block] @ unit_proxies.t(), same & others, ~same).sum(1)

        return energy + in_blocks(among_proxies, numbers, len(numbers)).sum() / max(len(pairs.candidates), 1)

    def _potential(self, cosine: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Potential of pairs, by their cosines and their weights as a pair of one class and of two."""
        softened = (2 - 2 * cosine).relu() + (_SOFTENING * self.delta) ** 2
        ratio = self.delta**2 / softened
        power = self.alpha / 2
        return negative * ratio.clamp_min(1) ** power - positive * ratio.clamp_max(1) ** power
