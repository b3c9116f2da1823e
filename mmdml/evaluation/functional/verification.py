"""Verification over pairs: are two images of one class? Exact ROC figures of all pairs, in bounded memory."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmdml.utils.numbers import is_number

from .arguments import Keys
from .image_pairs import PairScores
from .roc import Roc


@torch.no_grad()
def verification_scores(
    embeddings: Tensor | np.ndarray,
    labels: Keys,
    *,
    fpr: Sequence[float] | float = (1e-3, 1e-2),
    ids: Keys | None = None,
    distance: str = 'cosine',
    block_size: int = 1024,
    device: str | torch.device | None = None,
) -> dict[str, float]:
    r"""EER, and TPR and threshold at given FPR, over all pairs of images.

    A pair is accepted if its similarity s is at least t. Over the pairs of one class (positives) and of two (negatives)

    .. math::
        \mathrm{TPR}(t) = P(s \ge t \mid +), \quad \mathrm{FPR}(t) = P(s \ge t \mid -), \quad
        \mathrm{FNR}(t) = 1 - \mathrm{TPR}(t)

    'EER' is the rate at which FPR and FNR are equal, on the ROC curve whose points are joined by lines (Jain et al.,
    IEEE TCSVT 2004). 'TPR@FPR=x' is the largest TPR of a threshold with FPR of at most x, not interpolated, and
    'threshold@FPR=x' the least score of the pairs accepted there; scores are cosines, dot products, or negative
    Euclidean distances. As in scikit-learn's ``roc_curve``, pairs of one score are accepted together.

    Figures are exact for the scores in the precision of the embeddings. Products of fp32 rows are taken in fp64 and
    rounded once, and cosines of fp64 rows to 1.4e-14, so that equal pairs have one score. Nothing is sorted: each pass
    over all pairs counts them by 16 more bits of the score, two passes for fp32 and four for fp64, so that memory does
    not grow with the number of pairs.

    Args:
        embeddings: ``(N, D)``.
        labels: ``(N,)`` int64 values or strings.
        fpr: rates in (0, 1], or one, at which TPR and threshold are given.
        ids: ``(N,)`` ints or strings; rows of one id are one image, and form no pair. Default: all differ.
        distance: 'cosine', 'dot', 'euclidean' or 'hyperbolic'.
        block_size: rows compared with all others at a time; changes memory, not results.
        device: where to compute. Default: where ``embeddings`` are.

    Returns:
        'EER' and 'threshold@EER', and for each x 'TPR@FPR=x' and 'threshold@FPR=x'. 'threshold@FPR=x' is inf where
        even the highest score of all belongs to more than that share of the negatives.

    Raises:
        ValueError: if shapes do not fit, embeddings are not finite, there is no pair of one class or none of two, a
            rate is out of range, or a name is unknown.
        TypeError: if labels or ids are neither integers nor strings.
    """
    fpr = (fpr,) if is_number(fpr) else fpr
    wrong = [rate for rate in fpr if not is_number(rate) or not 0 < rate <= 1]
    if wrong:
        raise ValueError(f'fpr must hold rates in (0, 1], got {wrong}')
    pairs = PairScores(embeddings, labels, ids, distance, block_size, device)
    roc = Roc(pairs)
    roc.prepare(fpr)
    eer, threshold = roc.equal_error()
    scores = {'EER': eer, 'threshold@EER': pairs.unit * threshold}
    for rate in fpr:
        point = roc.at_fpr(rate)
        scores |= {f'TPR@FPR={rate:g}': point.tpr, f'threshold@FPR={rate:g}': pairs.unit * point.threshold}
    return scores
