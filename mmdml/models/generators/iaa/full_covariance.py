"""Noise with the full covariance of a class, drawn without a D x D matrix per class.

A sum of the centered embeddings of a class with independent standard normal factors, divided by ``sqrt(n_k)``, has
exactly the covariance ``Sigma_k = (1 / n_k) sum_j (x_j - mu_k)(x_j - mu_k)^T`` (IAA, Fu et al., T-MM 2022, Eq. 8).
Mixtures of covariances are sums of such independent terms with square-rooted weights. An extension: the paper's
experiments use diagonals.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .class_statistics import class_statistics
from .neighbor_correction import correction_weight
from .neighbors import neighbor_weights


@dataclass(frozen=True)
class CovarianceBank:
    """The centered embeddings of all images, class after class, and how each class borrows from others (Eq. 15).

    Attributes:
        rows: ``(N, D)`` embeddings minus the mean of their class, sorted by class, float32 at least.
        offsets: ``(C + 1,)`` int64: class k has the rows ``offsets[k]`` to ``offsets[k + 1]``.
        alpha: ``(C,)`` correction weights, all 0 without correction.
        indices: ``(C, K)`` neighbors; K = 0 without correction.
        weights: ``(C, K)`` their weights, of sum 1 per class, or all 0 for a class without neighbors.
        gamma: share of the pooled covariance in what is borrowed.
        pooled_factor: ``(D, D)`` L with ``L L^T`` = covariance pooled over the classes with two images or more (Eq. 14
            with matrices); None without correction.
    """

    rows: Tensor
    offsets: Tensor
    alpha: Tensor
    indices: Tensor
    weights: Tensor
    gamma: float = 0.0
    pooled_factor: Tensor | None = None

    @classmethod
    def build(
        cls,
        embeddings: Tensor,
        labels: Tensor,
        num_classes: int,
        correction: Mapping[str, Any] | None = None,
    ) -> 'CovarianceBank':
        """Center, sort, and find the neighbors.

        Args:
            embeddings: ``(N, D)`` raw embeddings.
            labels: ``(N,)`` integers in 0..num_classes-1.
            num_classes: C.
            correction: arguments of ``correct_variance`` by name, ``{}`` for its defaults. Default: no correction.

        Raises:
            ValueError: as ``class_statistics`` and ``correct_variance``.
            TypeError: if ``correction`` has an unknown name.
        """
        count, mean, var = class_statistics(embeddings, labels, num_classes)
        order = torch.argsort(labels, stable=True)
        rows = embeddings.detach()[order] - mean[labels[order]]
        offsets = torch.cat([count.new_zeros(1), count.cumsum(0)])
        if correction is None:
            none = count.new_zeros(num_classes, 0)
            return cls(rows, offsets, rows.new_zeros(num_classes), none, none.to(rows))
        alpha, indices, weights, gamma = _borrowing(count, mean, var, **correction)
        # Rows of single-image classes are zero: they add nothing to the sum, and must not count in the divisor.
        images = count[count >= 2].sum().clamp(min=1)
        return cls(rows, offsets, alpha, indices, weights, gamma, covariance_factor(rows.t() @ rows / images))

    def to(self, device: str | torch.device) -> 'CovarianceBank':
        """Return the same bank on ``device``; nothing is copied if it is there."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)


def _borrowing(
    count: Tensor,
    mean: Tensor,
    var: Tensor,
    num_neighbors: int = 25,
    beta: float = 0.1,
    gamma: float = 0.1,
    tau: float = 40,
    **kernel: Any,
) -> tuple[Tensor, Tensor, Tensor, float]:
    """``alpha (C,)``, neighbors ``(C, K)``, their weights ``(C, K)`` and gamma; neighbors only where alpha > 0."""
    if not 0 <= gamma <= 1:
        raise ValueError(f'gamma must be in [0, 1], got {gamma}')
    alpha = correction_weight(count, beta, tau).to(var.dtype)
    borrowers = (alpha > 0).nonzero().flatten()
    found, shares = neighbor_weights(count, mean, var, num_neighbors, rows=borrowers, **kernel)
    indices = count.new_zeros(len(count), found.shape[1]).index_copy_(0, borrowers, found)
    weights = var.new_zeros(len(count), found.shape[1]).index_copy_(0, borrowers, shares)
    return alpha, indices, weights, gamma


def covariance_factor(covariance: Tensor) -> Tensor:
    """L with ``L L^T = covariance``: Cholesky's, or from the eigenvectors where the matrix is singular.

    Args:
        covariance: ``(D, D)`` symmetric, positive semi-definite.

    Returns:
        ``(D, D)``.
    """
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if not failed:
        return factor
    # Fewer images than dimensions. No jitter on the diagonal: it would add noise where the data have none.
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()


def full_covariance_noise(
    class_ids: Tensor, copies: int, bank: CovarianceBank, generator: torch.Generator | None = None
) -> Tensor:
    """Draw noise with the corrected full covariance of each row's class.

    With ``g_i = n_i^{-1/2} sum_j eps_j (x_j - mu_i)`` and ``g_glob = L eps``, all eps independent and standard normal::

        noise_k = sqrt(1 - alpha_k) g_k + sqrt(alpha_k (1 - gamma)) sum_{i in N_k} sqrt(w_{k,i}) g_i
                  + sqrt(alpha_k gamma) g_glob

    whose covariance is Eq. 15 with matrices in place of diagonals. Where a class has no neighbors, g_glob takes their
    share.

    Args:
        class_ids: ``(R,)`` class of each row of the batch.
        copies: M, independent draws per row.
        bank: the centered embeddings.
        generator: on the device of the bank.

    Returns:
        ``(M, R, D)`` in the type of ``bank.rows``; multiply by sqrt(lambda).
    """
    rows = bank.rows
    classes, member_of = class_ids.unique(return_inverse=True)
    span, lengths, pooled_share = _scaled_rows(bank, classes)

    # The rows of a class share its part of the list: one matrix product per class of the batch.
    members = torch.bincount(member_of, minlength=len(classes))
    sizes = torch.stack([lengths, members, copies * members * lengths]).tolist()
    eps = torch.randn(sum(sizes[2]), generator=generator, device=rows.device, dtype=rows.dtype)
    by_class = torch.argsort(member_of, stable=True).split(sizes[1])
    noise = rows.new_empty(copies, len(class_ids), rows.shape[1])
    for part, factors, where in zip(span.split(sizes[0]), eps.split(sizes[2]), by_class, strict=True):
        noise[:, where] = factors.view(copies, len(where), len(part)) @ part
    if bank.pooled_factor is not None:
        eps = torch.randn(noise.shape, generator=generator, device=rows.device, dtype=rows.dtype)
        noise += pooled_share.sqrt()[member_of, None] * (eps @ bank.pooled_factor.t())
    return noise


def _scaled_rows(bank: CovarianceBank, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the noise of each class is spanned by.

    Args:
        bank: the centered embeddings.
        classes: ``(U,)`` distinct classes.

    Returns:
        ``(L, D)`` rows of the class itself and of its neighbors, times the square root of their share over their count,
        class after class; ``(U,)`` how many of them each class has; ``(U,)`` the share of the pooled covariance.
    """
    alpha = bank.alpha[classes, None]
    borrowed = alpha * (1 - bank.gamma) * bank.weights[classes]
    sources = torch.cat([classes[:, None], bank.indices[classes]], 1).flatten()
    shares = torch.cat([1 - alpha, borrowed], 1).flatten()
    counts = bank.offsets.diff()[sources]
    lengths = torch.where(shares > 0, counts, 0)
    source_of = torch.repeat_interleave(lengths)
    within = torch.arange(len(source_of), device=classes.device) - (lengths.cumsum(0) - lengths)[source_of]
    scale = (shares / counts.clamp(min=1)).sqrt()
    span = bank.rows[bank.offsets[sources[source_of]] + within] * scale[source_of, None]
    pooled_share = (alpha - borrowed.sum(1, keepdim=True)).clamp(min=0)[:, 0]
    return span, lengths.view(len(classes), -1).sum(1), pooled_share
