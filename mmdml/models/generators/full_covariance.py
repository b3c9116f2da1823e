"""Noise with the full covariance of a class, drawn without a D x D matrix per class (IAA dossier sec. 9, item 23).

A sum of the centred embeddings of a class with independent standard normal factors, divided by ``sqrt(n_k)``, has exactly
the covariance ``Sigma_k = (1 / n_k) sum_j (x_j - mu_k)(x_j - mu_k)^T`` (IAA, Fu et al., T-MM 2022, Eq. 8). Mixtures of covariances
are sums of such independent terms with square-rooted weights. An extension: the paper's experiments use diagonals.
"""

from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from .class_statistics import check_embeddings, class_statistics


@dataclass(frozen=True)
class CovarianceBank:
    """The centred embeddings of all images, class after class.

    Attributes:
        rows: ``(N, D)`` embeddings minus the mean of their class, sorted by class, float32 at least.
        offsets: ``(C + 1,)`` int64: class k has the rows ``offsets[k]`` to ``offsets[k + 1]``.
        pooled_factor: ``(D, D)`` L with ``L L^T`` = covariance pooled over the classes with two images or more (Eq. 14 with
            matrices), or None.
    """

    rows: Tensor
    offsets: Tensor
    pooled_factor: Optional[Tensor] = None

    @classmethod
    def build(
        cls, embeddings: Tensor, labels: Tensor, num_classes: int, with_pooled: bool = True
    ) -> 'CovarianceBank':
        """Centre and sort.

        Args:
            embeddings: ``(N, D)`` raw embeddings.
            labels: ``(N,)`` integers in 0..num_classes-1.
            num_classes: C.
            with_pooled: also factorise the pooled covariance, which noise with ``alpha > 0`` needs.

        Raises:
            ValueError: as ``class_statistics``.
        """
        check_embeddings(embeddings, labels, num_classes)
        count, mean, _ = class_statistics(embeddings, labels, num_classes)
        order = torch.argsort(labels, stable=True)
        rows = embeddings.detach()[order] - mean[labels[order]]
        offsets = torch.cat([count.new_zeros(1), count.cumsum(0)])
        factor = None
        if with_pooled:
            # Rows of single-image classes are zero: they add nothing above, and must not count below.
            images = count[count >= 2].sum().clamp(min=1)
            factor = covariance_factor(rows.t() @ rows / images)
        return cls(rows, offsets, factor)


def covariance_factor(covariance: Tensor) -> Tensor:
    """L with ``L L^T = covariance``: Cholesky's, or the symmetric square root where the matrix is singular.

    Args:
        covariance: ``(D, D)`` symmetric, positive semi-definite.

    Returns:
        ``(D, D)``.
    """
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if not failed:
        return factor
    # Fewer images than dimensions: no jitter, which would add noise where the data have none.
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()


def full_covariance_noise(
    class_ids: Tensor,
    copies: int,
    bank: CovarianceBank,
    alpha: Optional[Tensor] = None,
    indices: Optional[Tensor] = None,
    weights: Optional[Tensor] = None,
    gamma: float = 0.1,
    generator: Optional[torch.Generator] = None,
) -> Tensor:
    """Draw noise with the corrected full covariance of each row's class.

    With ``g_i = n_i^{-1/2} sum_j eps_j (x_j - mu_i)`` and ``g_glob = L eps``, all eps independent and standard normal::

        noise_k = sqrt(1 - alpha_k) g_k + sqrt(alpha_k (1 - gamma)) sum_{i in N_k} sqrt(w_{k,i}) g_i + sqrt(alpha_k gamma) g_glob

    whose covariance is Eq. 15 with matrices in place of diagonals. Where a class has no neighbors (all weights 0), g_glob
    takes their share.

    Args:
        class_ids: ``(R,)`` class of each row of the batch.
        copies: M, independent draws per row.
        bank: the centred embeddings.
        alpha: ``(C,)`` from ``correction_weight``. Default: no correction.
        indices: ``(C, K)`` neighbors, from ``neighbor_weights``; needed with ``alpha``.
        weights: ``(C, K)`` their weights, rows with sum 1 or 0; needed with ``alpha``.
        gamma: in [0, 1], share of the pooled covariance.
        generator: on the device of ``bank.rows``.

    Returns:
        ``(M, R, D)`` in the type of ``bank.rows``; multiply by sqrt(lambda).

    Raises:
        ValueError: if ``alpha`` comes without neighbors, or needs a pooled factor that the bank lacks.
    """
    rows, offsets = bank.rows, bank.offsets
    classes, member_of = class_ids.unique(return_inverse=True)
    sources, shares = classes[:, None], rows.new_ones(len(classes), 1)
    pooled_share = rows.new_zeros(len(classes))
    if alpha is not None:
        if indices is None or weights is None:
            raise ValueError('alpha needs indices and weights of the neighbors, see neighbor_weights')
        if bank.pooled_factor is None:
            raise ValueError('alpha needs the pooled covariance: build the CovarianceBank with with_pooled=True')
        alpha, weights = alpha[classes].to(rows), weights[classes].to(rows)
        neighbor_shares = (alpha * (1 - gamma))[:, None] * weights
        sources = torch.cat([sources, indices[classes]], 1)
        shares = torch.cat([(1 - alpha)[:, None], neighbor_shares], 1)
        pooled_share = (alpha - neighbor_shares.sum(1)).clamp(min=0)

    # One flat list of bank rows for all classes of the batch, each with the standard deviation of its factor.
    counts = offsets.diff()[sources]
    lengths = torch.where(shares > 0, counts, 0)
    segment = torch.repeat_interleave(lengths.flatten())
    within = torch.arange(len(segment), device=segment.device) - (lengths.flatten().cumsum(0) - lengths.flatten())[segment]
    gathered = rows[offsets[sources.flatten()[segment]] + within]
    gathered = gathered * (shares / counts.clamp(min=1)).sqrt().flatten()[segment, None]

    # Rows of one class share their part of the list; a loop over the classes of a batch, with one matrix product each.
    noise = rows.new_zeros(copies, len(class_ids), rows.shape[1])
    per_class = torch.stack([lengths.sum(1), torch.bincount(member_of, minlength=len(classes))], 1).tolist()
    by_class = torch.argsort(member_of, stable=True).split([members for _, members in per_class])
    factors = torch.randn(
        copies * sum(length * members for length, members in per_class),
        generator=generator, device=rows.device, dtype=rows.dtype,
    ).split([copies * length * members for length, members in per_class])
    spans = gathered.split([length for length, _ in per_class])
    for (length, members), where, eps, span in zip(per_class, by_class, factors, spans):
        noise[:, where] = (eps.view(copies * members, length) @ span).view(copies, members, -1)
    if alpha is not None:
        eps = torch.randn(noise.shape, generator=generator, device=rows.device, dtype=rows.dtype)
        noise += pooled_share.sqrt()[member_of, None] * (eps @ bank.pooled_factor.t())
    return noise
