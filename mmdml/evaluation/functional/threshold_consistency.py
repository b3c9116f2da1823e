"""Whether one threshold suits all classes."""

import numpy as np
import torch
from torch import Tensor

from mmdml.utils.numbers import is_number, is_whole

from .arguments import Keys
from .image_pairs import PairScores
from .roc import Roc


@torch.no_grad()
def threshold_consistency(
    embeddings: Tensor | np.ndarray,
    labels: Keys,
    *,
    fpr_range: tuple[float, float] = (1e-2, 1e-1),
    points: int = 101,
    ids: Keys | None = None,
    distance: str = 'cosine',
    block_size: int = 1024,
    device: str | torch.device | None = None,
) -> dict[str, float]:
    r"""OPIS: the variance over classes of what a threshold does (operating-point inconsistency score).

    Zhang et al., Threshold-Consistent Margin Loss for Open-World Deep Metric Learning, ICLR 2024. For a class i and a
    threshold t, with TPR over the pairs within the class and TNR over the pairs of one image of the class and one of
    another, the utility is their harmonic mean; over C classes with at least two images

    .. math::
        U_i(t) = \frac{2 \, \mathrm{TPR}_i(t) \, \mathrm{TNR}_i(t)}{\mathrm{TPR}_i(t) + \mathrm{TNR}_i(t)}, \quad
        \mathrm{OPIS} = \frac{1}{C (t_1 - t_0)} \sum_i \int_{t_0}^{t_1} \left(U_i(t) - \bar U(t)\right)^2 dt

    The range of thresholds is where the false positive rate over all pairs lies in ``fpr_range``. Utilities are exact
    at evenly spaced thresholds; the integral is that of the trapezoid rule.

    Args:
        embeddings: ``(N, D)``.
        labels: ``(N,)`` int64 values or strings.
        fpr_range: false positive rates between which thresholds are of interest.
        points: thresholds.
        ids: ``(N,)`` ints or strings; rows of one id are one image, and form no pair. Default: all differ.
        distance: 'cosine', 'dot', 'euclidean' or 'hyperbolic'.
        block_size: rows compared with all others at a time.
        device: where to compute. Default: where ``embeddings`` are.

    Returns:
        'OPIS', 0 if all classes behave alike at every threshold, and 'utility', the mean of :math:`\bar U` over the
        range.

    Raises:
        ValueError: if shapes do not fit, embeddings are not finite, no class has two images, or a setting is out of
            range.
        TypeError: if labels or ids are neither integers nor strings.
    """
    of_numbers = np.shape(fpr_range) == (2,) and all(map(is_number, fpr_range))
    if not of_numbers or not 0 < fpr_range[0] < fpr_range[1] <= 1:
        raise ValueError(f'fpr_range must be two rising rates in (0, 1], got {fpr_range!r}')
    low, high = fpr_range
    if not is_whole(points) or points < 2:
        raise ValueError(f'points must be an integer and at least 2, got {points!r}')
    pairs = PairScores(embeddings, labels, ids, distance, block_size, device)
    roc = Roc(pairs)
    roc.prepare(fpr_range)
    # Fewer accepted pairs, higher threshold; inf if not a single pair fits.
    first, last = (roc.at_fpr(rate).threshold for rate in (high, low))
    last = max(first, last if np.isfinite(last) else first)
    if not np.isfinite(first):
        raise ValueError(f'no threshold has a false positive rate of at most {high}: the highest score is of negatives')
    thresholds = torch.linspace(first, last, points, dtype=torch.float64)

    counts = torch.zeros(2, pairs.num_classes, points + 1, dtype=torch.float64)
    for scores, same_class, classes in pairs.by_class():
        # A pair with place p is accepted by the first p thresholds.
        place = torch.bucketize(scores.double().cpu(), thresholds, right=True)
        index = (same_class.long().cpu() * pairs.num_classes + classes.cpu()) * (points + 1) + place
        counts += torch.bincount(index, minlength=counts.numel()).reshape(counts.shape)
    accepted = counts.flip(2).cumsum(2).flip(2)
    share = accepted[:, :, 1:] / accepted[:, :, :1]
    known = (accepted[:, :, 0] > 0).all(0)
    tnr, tpr = 1 - share[0, known], share[1, known]
    total = tpr + tnr
    utility = torch.where(total > 0, 2 * tpr * tnr / total.clamp_min(1e-300), 0)
    spread = utility.var(0, correction=0)
    weights = torch.ones(points, dtype=torch.float64)
    weights[[0, -1]] = 0.5
    weights /= weights.sum()
    return {'OPIS': float((spread * weights).sum()), 'utility': float((utility.mean(0) * weights).sum())}
