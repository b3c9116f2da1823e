"""Recall@K surrogate loss."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_positive
from mmdml.utils.numbers import is_number

from .base import PairLoss
from .pair_sums import count_above, positive_pairs


@MODELS.register_module()
class RecallAtKLoss(PairLoss):
    r"""Recall@K surrogate: how many positives are within the first k, with smooth ranks and a smooth threshold.

    Patel et al., CVPR 2022 (RS@k): the mean over the anchors i that have a positive, and over the given k, of

    .. math:: 1 - \frac{1}{\min(k, |P_i|)} \sum_{j \in P_i} \sigma\Big(\frac{k - r_{ij}}{\tau_1}\Big), \quad
        r_{ij} = 1 + \sum_{z \in P_i \cup N_i \setminus j} \sigma\Big(\frac{s_{iz} - s_{ij}}{\tau_2}\Big)

    Made for batches of thousands. Weights of mined pairs, and soft targets t and 1 - t, are counts in the sums. Costs X
    numbers for every positive pair, by blocks.

    Args:
        ks: the k, each 1 or more.
        rank_temperature: :math:`\tau_1`, in ranks, above 0.
        temperature: :math:`\tau_2`, a difference of similarities, above 0.

    Raises:
        ValueError: if there is no k or one below 1, or a temperature is not positive.

    Config::

        loss=dict(type='RecallAtKLoss', ks=(1, 2, 4, 8, 16), rank_temperature=1.0, temperature=0.01)
    """

    soft_targets = True

    def __init__(
        self, ks: Sequence[int] = (1, 2, 4, 8, 16), rank_temperature: float = 1.0, temperature: float = 0.01
    ) -> None:
        super().__init__()
        check_positive(rank_temperature=rank_temperature, temperature=temperature)
        if not isinstance(ks, Sequence) or not ks or not all(is_number(k) and k >= 1 for k in ks):
            raise ValueError(f'ks must be one or more numbers of 1 or more, got {ks}')
        self.ks = tuple(ks)
        # On the device of the model: made at every step, it would have to be copied there.
        self.register_buffer('_ks', torch.tensor(self.ks, dtype=torch.float32), persistent=False)
        self.rank_temperature = rank_temperature
        self.temperature = temperature

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the set of all pairs."""
        positive, negative = pairs.weights(mined)
        found = positive_pairs(positive)
        rank = 1 + count_above(pairs.similarity, positive, negative, found, self._step, self._step).sum(1)
        ks = self._ks.to(rank)
        inside = ((ks - rank[:, None]) / self.rank_temperature).sigmoid() * found.weight[:, None]
        number_inside = rank.new_zeros(len(positive), len(ks)).index_add(0, found.anchor, inside)
        number = positive.sum(1, keepdim=True)
        has_positive = number > 0
        recall = number_inside / torch.minimum(ks, number.masked_fill(~has_positive, 1.0))
        return ((1 - recall) * has_positive).sum() / (len(ks) * has_positive.sum().clamp_min(1))

    def _step(self, difference: Tensor) -> Tensor:
        return (difference / self.temperature).sigmoid()
