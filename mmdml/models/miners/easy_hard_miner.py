"""Easy, semi-hard and hard positives and negatives, within ranges of distance."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Pairs, Triplets
from mmdml.utils.numbers import are_numbers

from .base import Miner

CHOICES = ('easy', 'semi-hard', 'hard', 'all')


@TASK_UTILS.register_module()
class EasyHardMiner(Miner):
    """For every anchor one positive and one negative, each easy, semi-hard or hard; or all of one side.

    ============  ==========================================  ============================================
    choice        positive                                    negative
    ============  ==========================================  ============================================
    'easy'        the nearest                                 the farthest
    'semi-hard'   the farthest that is nearer than the        the nearest that is farther than the
                  negative                                    positive
    'hard'        the farthest                                the nearest
    'all'         all of them                                 all of them
    ============  ==========================================  ============================================

    Easy positives are those of Xuan et al., WACV 2020, hard ones with hard negatives those of Hermans et al., arXiv
    1703.07737. Ranges leave pairs out beforehand: too near positives are duplicates, too near negatives may be wrong
    labels. Equals ``BatchEasyHardMiner`` of pytorch-metric-learning, where 'all' has no range. Of equal similarities
    the first candidate is taken, and anchors without such a positive or negative give nothing.

    Args:
        positives: 'easy', 'semi-hard', 'hard' or 'all'.
        negatives: likewise; 'semi-hard' on one side needs one candidate on the other.
        positive_range: smallest and largest distance of positives. Default: all.
        negative_range: smallest and largest distance of negatives. Default: all.

    Raises:
        ValueError: for an unknown choice, choices that do not go together, or a range that is none.

    Config::

        miner=dict(type='EasyHardMiner', positives='easy', negatives='semi-hard', negative_range=(0.1, 2.0))
    """

    def __init__(
        self,
        positives: str = 'easy',
        negatives: str = 'semi-hard',
        positive_range: Sequence[float] | None = None,
        negative_range: Sequence[float] | None = None,
    ) -> None:
        for name, choice in (('positives', positives), ('negatives', negatives)):
            if choice not in CHOICES:
                raise ValueError(f'{name} must be one of {CHOICES}, got {choice!r}')
        if 'semi-hard' in (positives, negatives) and {positives, negatives} <= {'semi-hard', 'all'}:
            raise ValueError(
                f"positives={positives!r} and negatives={negatives!r}: 'semi-hard' compares with the one easy or hard "
                'candidate of the other side'
            )
        for name, span in (('positive_range', positive_range), ('negative_range', negative_range)):
            if span is not None and (not are_numbers(span) or len(span) != 2 or not 0 <= span[0] <= span[1]):
                raise ValueError(f'{name} must be two distances, 0 <= smallest <= largest, got {span!r}')
        self.positives = positives
        self.negatives = negatives
        self.positive_range = positive_range
        self.negative_range = negative_range

    def __call__(self, pairs: PairBatch) -> Triplets | Pairs:
        """At most one triplet per anchor, index tensors ``(T,)``; pairs where all of a side are taken."""
        if pairs.similarity.numel() == 0:
            return Triplets.none(pairs.similarity.device)
        masks = {
            'positives': _within(pairs, pairs.positive_mask, self.positive_range),
            'negatives': _within(pairs, pairs.negative_mask, self.negative_range),
        }
        choices = dict(positives=self.positives, negatives=self.negatives)
        # What a semi-hard side is compared with comes first.
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for side in sorted(choices, key=lambda side: choices[side] == 'semi-hard'):
            if choices[side] != 'all':
                found[side] = self._choose(pairs, masks[side], side, choices[side], found)
        if 'all' not in choices.values():
            column, has = ({side: found[side][place] for side in found} for place in (0, 1))
            anchor = (has['positives'] & has['negatives']).nonzero().squeeze(1)
            return Triplets(anchor, column['positives'][anchor], column['negatives'][anchor])
        parts = []
        for side in choices:
            if side in found:
                anchor = found[side][1].nonzero().squeeze(1)
                parts.append((anchor, found[side][0][anchor]))
            else:
                parts.append(masks[side].nonzero(as_tuple=True))
        return Pairs(*(torch.cat(columns) for columns in zip(*parts, strict=True)))

    @staticmethod
    def _choose(
        pairs: PairBatch, mask: Tensor, side: str, choice: str, found: dict[str, tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Return ``(A,)`` columns, and ``(A,)`` bool: which anchors have one."""
        if choice == 'semi-hard':
            ((other, _),) = found.values()
            bound = pairs.similarity.gather(1, other[:, None])
            nearer = pairs.similarity > bound if side == 'positives' else pairs.similarity < bound
            mask = mask & nearer
        # Hard negatives and easy positives are near, the others far.
        if (choice == 'easy') == (side == 'positives'):
            column = pairs.similarity.masked_fill(~mask, float('-inf')).argmax(1)
        else:
            column = pairs.similarity.masked_fill(~mask, float('inf')).argmin(1)
        return column, mask.any(1)


def _within(pairs: PairBatch, mask: Tensor, span: Sequence[float] | None) -> Tensor:
    if span is None:
        return mask
    distance = pairs.distance(eps=0)
    return mask & (distance >= span[0]) & (distance <= span[1])
