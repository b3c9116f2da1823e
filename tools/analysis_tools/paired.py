"""Differences between two ways to train, seed by seed: mean, intervals and signs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

#: Draws of the bootstrap, and the seed that makes its interval the same each time.
RESAMPLES, SEED = 10_000, 0


@dataclass(frozen=True)
class Paired:
    """What n differences say.

    Attributes:
        n: pairs.
        mean: of the differences.
        t: 95 % interval of the mean by Student's t; None for one pair.
        bootstrap: 95 % percentile interval of the mean over resampled pairs; None for one pair.
        positive: differences above 0.
    """

    n: int
    mean: float
    t: tuple[float, float] | None
    bootstrap: tuple[float, float] | None
    positive: int

    @property
    def clear(self) -> bool:
        """Whether the t interval leaves out 0, of three pairs or more: that of two equal ones has no width."""
        return self.n > 2 and (self.t[0] > 0 or self.t[1] < 0)


def paired(differences: Sequence[float], confidence: float = 0.95) -> Paired:
    """Summarize differences ``d_1 .. d_n`` of runs that share their seeds.

    ``mean ± t_{n-1, (1 + c) / 2} s / sqrt(n)`` with the sample deviation s; the bootstrap draws n of the differences
    with repetition and takes the percentiles of their means. Few seeds make it too narrow, as it knows no wider spread
    than theirs; t assumes that they are normal.

    Raises:
        ValueError: without a difference.
    """
    d = np.asarray(differences, dtype=np.float64)
    if not len(d):
        raise ValueError('there are no pairs to compare')
    mean, positive = float(d.mean()), int((d > 0).sum())
    if len(d) == 1:
        return Paired(1, mean, None, None, positive)
    half = stats.t.ppf((1 + confidence) / 2, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    draws = np.random.default_rng(SEED).integers(len(d), size=(RESAMPLES, len(d)))
    low, high = np.quantile(d[draws].mean(1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Paired(len(d), mean, (mean - half, mean + half), (float(low), float(high)), positive)


def differences(first: Mapping[Any, float], second: Mapping[Any, float]) -> list[float]:
    """``second - first`` of the keys that both have, such as seeds, in rising order."""
    return [second[key] - first[key] for key in sorted(first.keys() & second.keys())]
