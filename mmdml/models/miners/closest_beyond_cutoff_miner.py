"""Nearest negatives beyond a cutoff."""

from torch import Tensor

from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Triplets
from mmdml.structures.checks import check_numbers

from .base import Miner


@TASK_UTILS.register_module()
class ClosestBeyondCutoffMiner(Miner):
    r"""For every anchor its positives, paired with its nearest negatives that are not nearer than a cutoff.

    The rule of the released code of Sanakoyeu et al., CVPR 2019. The number of triplets of an anchor is

    .. math:: M = \max\big(1, \lfloor \tfrac{1}{A} \sum_i |P_i| \rfloor \big),

    K - 1 for P x K batches of real rows; negatives are the M nearest with :math:`D \geq` ``cutoff``, positives the
    first M in the order of the candidates. Where there are fewer of either, an anchor gives fewer triplets. (The
    release has no such guard: where negatives beyond the cutoff run out, it takes the anchor itself and its positives
    for negatives. Nor does it give any triplet where anchors have less than one positive on average.)

    Args:
        cutoff: smallest distance of a negative, in [0, 2). Nearer ones are taken for noise.

    Raises:
        ValueError: if a setting is no number; if ``cutoff`` is out of range.

    Config::

        miner=dict(type='ClosestBeyondCutoffMiner', cutoff=0.5)
    """

    def __init__(self, cutoff: float = 0.5) -> None:
        check_numbers(cutoff=cutoff)
        if not 0 <= cutoff < 2:
            raise ValueError(f'cutoff must be a distance of unit vectors in [0, 2), got {cutoff}')
        self.cutoff = cutoff

    def __call__(self, pairs: PairBatch) -> Triplets:
        """At most M triplets per anchor, index tensors ``(T,)``."""
        distance = pairs.distance(eps=0)
        negatives = pairs.negative_mask & (distance >= self.cutoff)
        anchor = (pairs.positive_mask.any(1) & negatives.any(1)).nonzero().squeeze(1)
        if len(anchor) == 0:
            return Triplets.none(anchor.device)
        number = max(1, int(pairs.positive_mask.sum()) // len(pairs.anchors))
        positive, is_positive = _first(pairs.positive_mask[anchor], number)
        nearest = distance[anchor].masked_fill(~negatives[anchor], float('inf')).topk(number, dim=1, largest=False)
        kept = is_positive & (nearest.values < float('inf'))
        row, place = kept.nonzero(as_tuple=True)
        return Triplets(anchor[row], positive[row, place], nearest.indices[row, place])


def _first(mask: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Columns of the first ``number`` true entries of every row, and which of them are true. (A, X) -> 2 x (A, M)."""
    values, columns = mask.int().sort(dim=1, descending=True, stable=True)
    return columns[:, :number], values[:, :number] > 0
