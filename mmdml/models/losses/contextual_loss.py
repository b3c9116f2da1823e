"""Contextual loss."""

import torch
from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_numbers, check_positive
from mmdml.utils.numbers import check_counts

from .base import PairLoss
from .checks import check_label_targets
from .pair_sums import mean_of_hinges


class _Step(torch.autograd.Function):
    """1 where the input is above or at 0, else 0; with the gradient of ``slope`` times the input."""

    @staticmethod
    def forward(ctx, inputs: Tensor, slope: float) -> Tensor:
        ctx.slope = slope
        return (inputs >= 0).to(inputs.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.slope * gradient, None


@MODELS.register_module()
class ContextualLoss(PairLoss):
    r"""Contextual loss: rows of one class are to have the same nearest neighbors, rows of different classes none.

    Liao et al., ICML 2023, with the contextual similarity of Kim et al., CVPR 2021, in the form of the authors' code.
    Over the X candidates of the batch, :math:`N(i)` are those whose squared distance :math:`2 - 2s` is at most that of
    the k-th nearest plus :math:`\epsilon`, the row itself counted first, :math:`\bar N(i)` the others, and
    :math:`R(i)` those of the k / 2 nearest, in the same sense, of which i is a neighbor, too:

    .. math:: \tilde w_{ij} = \frac{1}{2} \Big( \frac{|N(i) \cap N(j)|}{|N(i)|} +
        \frac{|\bar N(i) \cap \bar N(j)|}{|\bar N(i)|} \Big) [j \in N(i)], \quad
        \hat w_{ij} = \frac{1}{|R(i)|} \sum_{r \in R(i)} \tilde w_{rj}, \quad
        w_{ij} = \tfrac{1}{2} (\hat w_{ij} + \hat w_{ji})

    .. math:: L = \frac{\lambda}{X^2} \sum_{ij} (y_{ij} - w_{ij})^2 + (1 - \lambda - \gamma)
        \big( \operatorname{mean}_{+} [m_p - s]_+ + \operatorname{mean}_{-} [s - m_n]_+ \big)
        + \gamma \, (\operatorname{mean} s - \bar s)^2

    with y 1 for positive and 0 for negative pairs. The sum and the means of hinges, those above 0, are over the
    positive and negative pairs of candidates with candidates, so that synthetic and remembered rows have neighbors as
    well; the last mean is over all :math:`X^2`. Membership is a step, whose gradient is that of a line; the sizes of N
    have none.

    Mined tuples are refused: neighbors are those of all rows. Costs three products of X x X matrices.

    Args:
        k: neighbors, the row itself among them: the number of images of a class in a batch.
        epsilon: :math:`\epsilon`, a difference of squared distances; 0.05 in the authors' code.
        context: :math:`\lambda` in [0, 1]; 0.4 in the authors' code.
        mean_weight: :math:`\gamma` >= 0, at most :math:`1 - \lambda`; 0.1 in the authors' code.
        mean_similarity: :math:`\bar s`; 0.25 in the authors' code.
        slope: of the line over squared distances, above 0; 10 in the authors' code.
        pos_margin: :math:`m_p`, a similarity; 0.75 in the authors' code.
        neg_margin: :math:`m_n`, a similarity; 0.6 in the authors' code.

    Raises:
        ValueError: if a setting is no number; if a value is out of range; in the forward pass, if something was mined
            or targets differ from the labels.

    Config::

        loss=dict(type='ContextualLoss', k=4, epsilon=0.05, context=0.4)
    """

    def __init__(
        self,
        k: int = 4,
        epsilon: float = 0.05,
        context: float = 0.4,
        mean_weight: float = 0.1,
        mean_similarity: float = 0.25,
        slope: float = 10.0,
        pos_margin: float = 0.75,
        neg_margin: float = 0.6,
    ) -> None:
        super().__init__()
        check_numbers(
            k=k,
            epsilon=epsilon,
            context=context,
            mean_weight=mean_weight,
            mean_similarity=mean_similarity,
            pos_margin=pos_margin,
            neg_margin=neg_margin,
        )
        check_positive(slope=slope)
        check_counts(2, k=k)
        if min(context, mean_weight) < 0 or context + mean_weight > 1:
            raise ValueError(f'context and mean_weight must be >= 0, of sum 1 at most, got {context} and {mean_weight}')
        self.k = k
        self.epsilon = epsilon
        self.context = context
        self.mean_weight = mean_weight
        self.mean_similarity = mean_similarity
        self.slope = slope
        self.pos_margin = pos_margin
        self.neg_margin = neg_margin

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss."""
        if mined is not None:
            raise ValueError(
                f'ContextualLoss compares the neighbors of all rows and cannot use mined {type(mined).__name__}; '
                'remove the miner of the head'
            )
        check_label_targets(pairs, type(self).__name__)
        rows = PairBatch(pairs.candidates, pairs.candidates, pairs.exclude_same_image, space=pairs.space)
        positive, negative = rows.weights()
        similarity = rows.similarity
        if similarity.numel() == 0:
            return similarity.sum()
        apart = mean_of_hinges((self.pos_margin - similarity).relu(), positive)
        apart = apart + mean_of_hinges((similarity - self.neg_margin).relu(), negative)
        errors = (positive - self.contextual_similarity(similarity)).square()
        context = ((positive + negative) * errors).sum() / errors.numel()
        mean = (similarity.mean() - self.mean_similarity).square()
        weight = 1 - self.context - self.mean_weight
        return self.context * context + weight * apart + self.mean_weight * mean

    def contextual_similarity(self, similarity: Tensor) -> Tensor:
        """``(X, X)`` similarities -> ``(X, X)`` likeness of neighbors in [0, 1]."""
        with torch.autocast(similarity.device.type, enabled=False):
            return self._contextual_similarity(similarity)

    def _contextual_similarity(self, similarity: Tensor) -> Tensor:
        near = self._neighbors(similarity, self.k)
        shares = [side @ side.t() / side.detach().sum(1, keepdim=True).clamp_min(1) for side in (near, 1 - near)]
        likeness = (shares[0] + shares[1]) / 2 * near
        few = self._neighbors(similarity, max(1, self.k // 2))
        mutual = few * few.t()
        expanded = mutual @ likeness / mutual.sum(1, keepdim=True)
        return (expanded + expanded.t()) / 2

    def _neighbors(self, similarity: Tensor, k: int) -> Tensor:
        """Whether a column is a neighbor of a row; every row is one of its own."""
        own = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
        ranked = similarity.masked_fill(own, float('inf'))
        kth = ranked.detach().topk(min(k, len(similarity)), dim=1).values[:, -1:]
        kth = torch.where(kth == float('inf'), 1.0, kth)
        return _Step.apply(2 * (similarity.masked_fill(own, 2.0) - kth) + self.epsilon, self.slope)
