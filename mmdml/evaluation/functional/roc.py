"""Points of the ROC curve of pairs, found by counting."""

import bisect
from collections.abc import Callable, Iterable
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
        # The highest score that is too many negatives, and all above it.
        key = self._find(self._too_many(rate))
        above = self.totals if key is None else self._above(key + 1)
        fpr, tpr = (above / self.totals).tolist()
        pairs = int(above.sum())
        lowest = self._find(lambda found: sum(found) >= pairs) if pairs else None
        return OperatingPoint(float('inf') if lowest is None else _to_score(lowest, self.bits), tpr, fpr)

    def equal_error(self) -> tuple[float, float]:
        """Return the rate where FPR and FNR meet, and the threshold of the first point with FPR >= FNR."""
        key = self._find(self._errs_equally)
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

    def prepare(self, rates: Iterable[float]) -> None:
        """Count what :meth:`at_fpr` of these rates and :meth:`equal_error` will need, in one pass."""
        falling = self._count(self.bits - _BITS, 0)[:, ::-1]
        reached, filled = falling.cumsum(1), np.flatnonzero(falling.any(0))
        tests = [self._too_many(rate) for rate in rates] + [self._errs_equally]
        wanted = set()
        for enough in tests:
            place = bisect.bisect_left(range(2**_BITS), True, key=lambda at: enough(reached[:, at].tolist()))
            # The score itself, and the next one above it.
            wanted |= {place, *filled[filled < place][-1:].tolist()}
        self._count_many(self.bits - 2 * _BITS, {2**_BITS - 1 - place for place in wanted if place < 2**_BITS})

    def _too_many(self, rate: float) -> Callable[[list[int]], bool]:
        """Whether the pairs from a score on have more than this share of the negatives."""
        allowed = int(rate * self.totals[0] * (1 + 1e-15))
        return lambda above: above[0] > allowed

    def _errs_equally(self, above: list[int]) -> bool:
        """Whether FPR >= 1 - TPR, in whole numbers, which do not round."""
        negatives, positives = self.totals.tolist()
        return above[0] * positives + above[1] * negatives >= negatives * positives

    def _count(self, shift: int, prefix: int) -> np.ndarray:
        """``(2, 2^16)`` negatives and positives by the 16 bits above ``shift``, of scores with this ``prefix``."""
        if (shift, prefix) not in self._counts:
            self._count_many(shift, {prefix})
        return self._counts[shift, prefix]

    def _count_many(self, shift: int, prefixes: set[int]) -> None:
        """Return the same of several prefixes in one pass, kept for :meth:`_count`."""
        counts = {prefix: np.zeros(2 * 2**_BITS, np.int64) for prefix in prefixes}
        top = shift + _BITS
        for scores, same_class in self.pairs:
            numbers = _to_numbers(scores)
            for prefix, found in counts.items():
                own, positive = numbers, same_class
                if top < self.bits:
                    kept = (numbers >> top) == prefix - 2 ** (self.bits - 1 - top)
                    own, positive = numbers[kept], same_class[kept]
                digits = (own >> shift) & (2**_BITS - 1)
                if top == self.bits:
                    digits ^= 2 ** (_BITS - 1)  # the sign: negative numbers come first
                places = digits + positive.long() * 2**_BITS
                found += torch.bincount(places, minlength=len(found)).cpu().numpy()
        self._counts |= {(shift, prefix): found.reshape(2, -1) for prefix, found in counts.items()}


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
