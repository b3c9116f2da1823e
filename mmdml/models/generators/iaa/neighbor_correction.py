"""Neighbor correction of class variances (IAA, Fu et al., T-MM 2022, Sec. IV-C, Eq. 12-16)."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdml.utils.near_names import check_settings

from .neighbors import at_least_float32, check_statistics, neighbor_weights


def check_correction(settings: Any) -> None:
    """Check settings of :func:`correct_variance` by name.

    Raises:
        ValueError: they are no mapping, or one of them has another name or is out of range.
    """
    if not isinstance(settings, Mapping):
        raise ValueError(f'correction must be True, False or settings by name, got {settings!r}')
    try:
        check_settings('correction', settings, correct_variance)
        # Three classes of two images: every setting is looked at.
        correct_variance(torch.full((3,), 2), torch.eye(3), torch.ones(3, 3), **settings)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f'correction={dict(settings)}: {error}') from error


def correct_variance(
    count: Tensor,
    mean: Tensor,
    var: Tensor,
    num_neighbors: int = 25,
    beta: float = 0.1,
    gamma: float = 0.1,
    tau: float = 40,
    sigma_mean: float = 1.0,
    sigma_cov: float = 1.0,
    block_size: int = 1024,
    squared_mean: bool = True,
) -> Tensor:
    """Blend the variance of small classes with that of their neighbors and with the pooled one (IAA Eq. 15).

    ``Sigma_cr_k = (1 - alpha_k) Sigma_k + alpha_k [(1 - gamma) Sigma_nb_k + gamma Sigma_glob]`` with
    ``Sigma_nb_k = sum_{i in N_k} w_{k,i} Sigma_i / sum_{i in N_k} w_{k,i}`` (Eq. 12). Classes with ``alpha_k = 0`` keep
    their variance bitwise and cost nothing. Where a class has no neighbors, Sigma_glob stands in for Sigma_nb; a class
    without images gets Sigma_glob. If no class has two images there is nothing to learn from and ``var`` comes back
    unchanged (all zeros): the caller should then not augment.

    Args:
        count: ``(C,)`` integers, images per class.
        mean: ``(C, D)`` class means.
        var: ``(C, D)`` class variances, divisor n_k.
        num_neighbors: K, size of N_k; fewer where fewer classes are eligible.
        beta: >= 0, how fast alpha falls with the number of images (Eq. 16).
        gamma: in [0, 1], share of Sigma_glob.
        tau: largest class that is still corrected, in images.
        sigma_mean: > 0, width of the kernel over relative mean distances; ``inf`` switches it off.
        sigma_cov: > 0, the same over relative variance distances.
        block_size: classes handled at once; memory is ``block_size x C``. Does not change the result.
        squared_mean: compare squared means (Eq. 9); False: the means themselves, which keeps their sign.

    Returns:
        ``(C, D)`` corrected variances, in the type of ``var``, float32 at least.

    Raises:
        ValueError: if shapes do not fit or a setting is out of range.
    """
    check_statistics(count, mean, var, num_neighbors, sigma_mean, sigma_cov, block_size)
    if not 0 <= gamma <= 1:
        raise ValueError(f'gamma must be in [0, 1], got {gamma}')
    var = at_least_float32(var)
    corrected = var.clone()
    if not (count >= 2).any():
        return corrected
    pooled = pooled_variance(count, var)
    alpha = correction_weight(count, beta, tau).to(var.dtype)
    rows = (alpha > 0).nonzero().flatten()
    indices, weights = neighbor_weights(
        count, mean, var, num_neighbors, sigma_mean, sigma_cov, block_size, squared_mean, rows
    )
    neighbors = F.embedding_bag(indices, var, per_sample_weights=weights.to(var.dtype), mode='sum')
    neighbors = torch.where((weights > 0).any(1, keepdim=True), neighbors, pooled)
    alpha = alpha[rows, None]
    corrected[rows] = (1 - alpha) * var[rows] + alpha * ((1 - gamma) * neighbors + gamma * pooled)
    corrected[count == 0] = pooled
    return corrected


def correction_weight(count: Tensor, beta: float = 0.1, tau: float = 40) -> Tensor:
    """How much of a class's variance is replaced (IAA Eq. 16).

    ``alpha_k = 1 / (1 + ln(1 + beta (n_k - 1)))`` if ``n_k <= tau``, else 0. It is 1 for one image, and for none.

    Args:
        count: ``(C,)`` images per class.
        beta: >= 0.
        tau: in images; the boundary itself is corrected.

    Returns:
        ``(C,)`` float64 in [0, 1].

    Raises:
        ValueError: if ``beta`` is negative.
    """
    if beta < 0:
        raise ValueError(f'beta must not be negative, got {beta}')
    alpha = 1 / (1 + torch.log1p(beta * (count.double() - 1).clamp(min=0)))
    return torch.where(count <= tau, alpha, 0.0)


def pooled_variance(count: Tensor, var: Tensor) -> Tensor:
    """Variance of all classes together (IAA Eq. 14): ``Sigma_glob = sum_k n_k Sigma_k / sum_k n_k`` over ``n_k >= 2``.

    Args:
        count: ``(C,)`` images per class.
        var: ``(C, D)`` class variances.

    Returns:
        ``(D,)``; zeros if no class has two images.
    """
    weight = torch.where(count >= 2, count, 0).double()
    return ((weight[None] @ var.double())[0] / weight.sum().clamp(min=1)).to(var.dtype)
