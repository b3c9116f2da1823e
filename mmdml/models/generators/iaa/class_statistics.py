"""Mean and variance of every class in embedding space (IAA, Fu et al., T-MM 2022, Eq. 7-8)."""

from typing import NamedTuple

import torch
from torch import Tensor

#: Rows handled at once: bounds the double-precision copies to a few MB.
_BLOCK_ROWS = 1024


class ClassStatistics(NamedTuple):
    """Diagonal Gaussian of every class.

    Attributes:
        count: ``(C,)`` int64, images of the class, n_k.
        mean: ``(C, D)`` mu_k; zero where the count is 0.
        var: ``(C, D)`` diagonal of Sigma_k, divisor n_k; zero where the count is 0 or 1.
    """

    count: Tensor
    mean: Tensor
    var: Tensor


def class_statistics(embeddings: Tensor, labels: Tensor, num_classes: int) -> ClassStatistics:
    """Count, mean and variance per class (IAA Eq. 7-8, diagonal form).

    ``mu_k = (1 / n_k) sum_{i in S_k} z_i`` and ``Sigma_k = (1 / n_k) sum_{i in S_k} (z_i - mu_k)^2``, by two passes of
    segment sums. Sums are kept in double precision: the order of the images and an offset common to all embeddings do
    not matter.

    Args:
        embeddings: ``(N, D)`` raw embeddings, not normalized.
        labels: ``(N,)`` integers in 0..num_classes-1.
        num_classes: C.

    Returns:
        ``count (C,)`` int64, ``mean (C, D)``, ``var (C, D)``; float64 for float64 input, else float32.

    Raises:
        ValueError: if shapes do not fit, a label is out of range, or an embedding is NaN or infinite.
    """
    check_embeddings(embeddings, labels, num_classes)
    embeddings, labels = embeddings.detach(), labels.long()
    count = torch.bincount(labels, minlength=num_classes)
    divisor = count.clamp(min=1).double()[:, None]
    mean = embeddings.new_zeros(num_classes, embeddings.shape[1], dtype=torch.float64)
    for rows, classes in zip(embeddings.split(_BLOCK_ROWS), labels.split(_BLOCK_ROWS), strict=True):
        mean.index_add_(0, classes, rows.double())
    mean /= divisor
    var = torch.zeros_like(mean)
    for rows, classes in zip(embeddings.split(_BLOCK_ROWS), labels.split(_BLOCK_ROWS), strict=True):
        var.index_add_(0, classes, (rows.double() - mean[classes]).square_())
    var /= divisor
    dtype = torch.promote_types(embeddings.dtype, torch.float32)
    return ClassStatistics(count, mean.to(dtype), var.to(dtype))


def update_statistics(
    old: ClassStatistics,
    new: ClassStatistics,
    momentum: float | None = None,
    seen: Tensor | None = None,
) -> ClassStatistics:
    """Statistics after another sweep: the fresh ones, or the running mix of the released code.

    With A_k images of class k seen in all earlier sweeps and n_k in the new one::

        w_k      = max(n_k / (A_k + n_k), 1 - momentum)
        Sigma_k <- (1 - w_k) Sigma_k + w_k v_k + w_k (1 - w_k) (mu_k - m_k)^2
        mu_k    <- (1 - w_k) mu_k + w_k m_k

    The last term of Sigma counts the drift of the network between sweeps as variance, so ``momentum=None`` (the paper)
    is the better choice. A class that the new sweep lacks keeps its values, count included.

    Args:
        old: of the earlier sweeps.
        new: of this sweep.
        momentum: None for fresh statistics; else in [0, 1]: the largest share that the old ones keep (released: 0.2).
        seen: ``(C,)`` A_k. Default: ``old.count``, right for a second sweep; after that the caller adds up
            ``new.count``.

    Returns:
        ``count`` is n_k of the last sweep that had the class, as Eq. 16 needs it.

    Raises:
        ValueError: if ``momentum`` is outside [0, 1].
    """
    if momentum is not None and not 0 <= momentum <= 1:
        raise ValueError(f'momentum must be None or in [0, 1], got {momentum}')
    present = new.count > 0
    count = torch.where(present, new.count, old.count)
    if momentum is None:
        # Not through the mix: 0 * inf and rounding must not touch what is only kept or replaced.
        mean = torch.where(present[:, None], new.mean, old.mean)
        return ClassStatistics(count, mean, torch.where(present[:, None], new.var, old.var))
    seen = old.count if seen is None else seen
    share = (new.count / (seen + new.count).clamp(min=1)).clamp(min=1 - momentum)
    return ClassStatistics(count, *_mix(old, new, torch.where(present, share, 0.0)))


def _mix(old: ClassStatistics, new: ClassStatistics, share: Tensor) -> tuple:
    share = share.to(new.mean.dtype)[:, None]
    mean = (1 - share) * old.mean + share * new.mean
    drift = share * (1 - share) * (old.mean - new.mean).square()
    return mean, (1 - share) * old.var + share * new.var + drift


def check_embeddings(embeddings: Tensor, labels: Tensor, num_classes: int) -> None:
    """Refuse what would give wrong statistics.

    Args:
        embeddings: ``(N, D)``.
        labels: ``(N,)``.
        num_classes: C.

    Raises:
        ValueError: names the shapes, the first labels out of 0..C-1, or the first rows that are not finite.
    """
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f'embeddings must be (N, D) and labels (N,), got {tuple(embeddings.shape)} and {tuple(labels.shape)}'
        )
    if labels.is_floating_point():
        raise ValueError(f'labels must be integers, got {labels.dtype}')
    outside = ((labels < 0) | (labels >= num_classes)).nonzero().flatten()
    if len(outside):
        rows = outside[:5].tolist()
        raise ValueError(
            f'{len(outside)} labels are outside 0..{num_classes - 1}: rows {rows} have {labels[outside[:5]].tolist()}'
        )
    # A row with NaN or infinity has no finite sum; a sum may overflow without one, so suspects are looked at again.
    suspects = (~embeddings.detach().sum(1).isfinite()).nonzero().flatten()
    suspects = suspects[~embeddings.detach()[suspects].isfinite().all(1)]
    if len(suspects):
        raise ValueError(
            f'{len(suspects)} of {len(embeddings)} embeddings are NaN or infinite, first rows {suspects[:5].tolist()}: '
            'the network has diverged (lower the learning rate, check AMP) or an input is broken'
        )
