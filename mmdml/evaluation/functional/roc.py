"""Points of the ROC curve of pairs, found by counting."""

import bisect
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .image_pairs import PairScores

#: Bits of a score that one pass over all pairs resolves.
_BITS = 16


class OperatingPoint(NamedTuple):
    """What accepting all pairs from a score on does.

    Attributes:
        threshold: pairs of at least this score are accepted.
        tpr: share of the pairs of one class that are accepted (true positive rate, true accept rate).
        fpr: share of the pairs of two classes that are accepted (false positive rate, false accept rate).
    """

    threshold: float
    tpr: float
    fpr: float


class Roc:
    """Points of the ROC curve, found by counting pairs by more and more bits of their scores.

    Scores become whole numbers in their order. A point is a number k: pairs of at least k are accepted.

    Args:
        pairs: whose scores are counted.

    Raises:
        ValueError: if there is no pair of one class, or none of two.
    """

    def __init__(self, pairs: PairScores) -> None:
        self.pairs = pairs
        self.bits = pairs.bits
        self._counts: dict[tuple[int, int], np.ndarray] = {}
        self.totals = self._count(self.bits - _BITS, 0).sum(1)
        for count, name in zip(self.totals, ('two classes', 'one class'), strict=True):
            if count == 0:
                raise ValueError(f'there is no pair of images of {name} among the {len(pairs.rows)} images')

    def at_fpr(self, rate: float) -> OperatingPoint:
        """Return the point with the most positives of those with at most this share of the negatives."""
        allowed = int(rate * self.totals[0] * (1 + 1e-15))
        # The highest score that is too many negatives, and all above it.
        key = self._find(lambda above: above[0] > allowed)
        above = self.totals if key is None else self._above(key + 1)
        fpr, tpr = (above / self.totals).tolist()
        pairs = int(above.sum())
        lowest = self._find(lambda found: sum(found) >= pairs) if pairs else None
        return OperatingPoint(float('inf') if lowest is None else _to_score(lowest, self.bits), tpr, fpr)

    def equal_error(self) -> tuple[float, float]:
        """Return the rate where FPR and FNR meet, and the threshold of the first point with FPR >= FNR."""
        negatives, positives = self.totals.tolist()
        # FPR >= 1 - TPR in whole numbers, which do not round.
        key = self._find(lambda above: above[0] * positives + above[1] * negatives >= negatives * positives)
        low, high = self._above(key + 1), self._above(key)
        (fpr_low, tpr_low), (fpr_high, tpr_high) = (counts / self.totals for counts in (low, high))
        # On the line between both points: fpr + tpr = 1.
        rise = (fpr_high - fpr_low) + (tpr_high - tpr_low)
        share = (1 - fpr_low - tpr_low) / rise
        return float(fpr_low + share * (fpr_high - fpr_low)), _to_score(key, self.bits)

    def _find(self, enough: Callable[[list[int]], bool]) -> int | None:
        """Return the largest number k of a score for which the pairs of at least k are enough; None if all are not."""
        if not enough(self.totals.tolist()):
            return None
        prefix, above = 0, np.zeros(2, np.int64)
        for shift in range(self.bits - _BITS, -1, -_BITS):
            # From the highest score down; the more pairs, the more they are enough.
            falling = self._count(shift, prefix)[:, ::-1]
            reached = above[:, None] + falling.cumsum(1)
            first = bisect.bisect_left(range(2**_BITS), True, key=lambda place: enough(reached[:, place].tolist()))
            above = reached[:, first] - falling[:, first]
            prefix = (prefix << _BITS) | (2**_BITS - 1 - first)
        return prefix

    def _above(self, key: int) -> np.ndarray:
        """``(2,)`` negatives and positives whose numbers are at least ``key``."""
        above = np.zeros(2, np.int64)
        if key >= 2**self.bits:
            return above
        for shift in range(self.bits - _BITS, -1, -_BITS):
            counts = self._count(shift, key >> (shift + _BITS))
            digit = (key >> shift) & (2**_BITS - 1)
            above += counts[:, digit + 1 :].sum(1)
        return above + counts[:, digit]

    def _count(self, shift: int, prefix: int) -> np.ndarray:
        """``(2, 2^16)`` negatives and positives by the 16 bits above ``shift``, of scores with this ``prefix``."""
        known = (shift, prefix)
        if known not in self._counts:
            counts = np.zeros(2 * 2**_BITS, np.int64)
            top = shift + _BITS
            for scores, same_class in self.pairs:
                numbers = _to_numbers(scores)
                if top < self.bits:
                    kept = (numbers >> top) == prefix - 2 ** (self.bits - 1 - top)
                    numbers, same_class = numbers[kept], same_class[kept]
                digits = (numbers >> shift) & (2**_BITS - 1)
                if top == self.bits:
                    digits ^= 2 ** (_BITS - 1)  # the sign: negative numbers come first
                places = digits + same_class.long() * 2**_BITS
                counts += torch.bincount(places, minlength=len(counts)).cpu().numpy()
            self._counts[known] = counts.reshape(2, -1)
        return self._counts[known]


def _to_numbers(scores: Tensor) -> Tensor:
    """int64 in the order of the scores, from -2^(bits-1) on."""
    scores = scores + 0.0  # -0 is equal to 0, but its bits are not
    if scores.dtype == torch.float64:
        bits = scores.view(torch.int64)
        return bits ^ ((bits >> 63) & torch.iinfo(torch.int64).max)
    bits = scores.view(torch.int32).long()
    return bits ^ ((bits >> 31) & (2**31 - 1))


def _to_score(number: int, bits: int) -> float:
    """Return the score that has a number in 0..2^bits-1."""
    kind, integer = (np.float64, np.int64) if bits == 64 else (np.float32, np.int32)
    signed = number - 2 ** (bits - 1)
    pattern = signed if signed >= 0 else signed ^ (2 ** (bits - 1) - 1)
    return float(np.array(pattern, integer).view(kind))
