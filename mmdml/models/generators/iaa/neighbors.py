"""Neighbors of classes and their weights (IAA, Fu et al., T-MM 2022, Sec. IV-B, Eq. 9-11 and 13).

Differences from the print: a class is not its own neighbor, classes with fewer than two images are no neighbors
(they have no variance estimate), and the distances in the kernel are relative, i.e. scaled to [0, 1] by their range per
class, which makes the method invariant to the scale of the embeddings.
"""

import torch
from torch import Tensor

#: More candidates than neighbors, so that rounding in the fast distances cannot push a true neighbor out.
_SPARE_CANDIDATES = 8
#: Differences held at once: small enough to stay in the cache, which halves the time of gathering them.
_EXACT_NUMBERS = 1 << 20


def neighbor_weights(
    count: Tensor,
    mean: Tensor,
    var: Tensor,
    num_neighbors: int = 25,
    sigma_mean: float = 1.0,
    sigma_cov: float = 1.0,
    block_size: int = 1024,
    squared_mean: bool = True,
    rows: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the nearest classes of each class and their normalized weights (IAA Eq. 9-11, 13).

    ``D_m(k, j) = ||mu_k^2 - mu_j^2||``, ``D_cv(k, j) = ||Sigma_k - Sigma_j||``; N_k are the K classes with the smallest
    D_m among those with two images or more, k itself excluded, ties by lower index. With both distances scaled to [0,
    1] by their range over these classes, ``w_{k,i} = n_i exp(-d_m^2 / (2 sigma_mean^2) - d_cv^2 / (2 sigma_cov^2))``.
    For a class with fewer than two images the second term is left out: its variance is no estimate.

    Args:
        count: ``(C,)`` integers, images per class.
        mean: ``(C, D)`` class means.
        var: ``(C, D)`` class variances.
        num_neighbors: K.
        sigma_mean: > 0.
        sigma_cov: > 0.
        block_size: classes handled at once.
        squared_mean: see ``correct_variance``.
        rows: ``(R,)`` classes k to handle. Default: all.

    Returns:
        ``indices (R, K')`` int64, nearest first, and ``weights (R, K')`` with sum 1 per row, K' = min(K, classes with
        two images). A slot without an eligible class has weight 0; a class without images, or without any eligible
        neighbor, has weights 0 throughout.

    Raises:
        ValueError: if shapes do not fit or a setting is out of range.
    """
    check_statistics(count, mean, var, num_neighbors, sigma_mean, sigma_cov, block_size)
    if rows is None:
        rows = torch.arange(len(count), device=count.device)
    columns = (count >= 2).nonzero().flatten()
    slots = min(num_neighbors, len(columns))
    mean, var = at_least_float32(mean), at_least_float32(var)
    if not slots or not len(rows):
        return rows.new_zeros(len(rows), slots), var.new_zeros(len(rows), slots)
    place = rows.masked_fill(count[rows] < 2, -1)  # where a class stands among the columns, -1: nowhere
    place = torch.where(place >= 0, torch.searchsorted(columns, place), -1)
    means = _Distances(mean.square() if squared_mean else mean, columns)
    variances = _Distances(var, columns)
    log_count = count[columns].to(var.dtype).log()

    parts = []
    for block, own in zip(rows.split(block_size), place.split(block_size), strict=True):
        nearest, distance, low, high = means.nearest(block, own, slots)
        exponent = _relative(distance, low, high).square() / (2 * sigma_mean**2)
        other, low, high = variances.to(block, own, nearest)
        with_estimate = (own >= 0)[:, None]
        exponent += torch.where(with_estimate, _relative(other, low, high), 0.0).square() / (2 * sigma_cov**2)
        logits = (log_count[nearest] - exponent).masked_fill(distance.isinf(), -torch.inf)
        # A softmax cannot underflow to 0 / 0 for narrow kernels; a row without neighbors is all -inf, hence NaN there.
        weights = torch.softmax(logits, 1).nan_to_num(0.0).masked_fill((count[block] == 0)[:, None], 0.0)
        parts.append((columns[nearest], weights))
    indices, weights = zip(*parts, strict=True)
    return torch.cat(indices), torch.cat(weights)


class _Distances:
    """Euclidean distances from some rows of a matrix to a fixed set of its rows.

    A matrix product finds candidates fast but rounds away the difference of nearly equal rows; what counts is computed
    again from the difference itself.

    Args:
        points: ``(C, D)``.
        columns: ``(E,)`` rows that distances go to.
    """

    def __init__(self, points: Tensor, columns: Tensor) -> None:
        self.points = points
        self.targets = points[columns]
        # An offset common to all rows would only add rounding.
        self.center = self.targets.mean(0)
        self.centered = self.targets - self.center
        self.norms = self.centered.square().sum(1)

    def nearest(self, rows: Tensor, own: Tensor, slots: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the nearest columns, ties by lower index.

        Args:
            rows: ``(R,)`` rows of ``points``.
            own: ``(R,)`` the column that is the row itself, -1 if none.
            slots: how many.

        Returns:
            ``(R, slots)`` columns and their distances (inf for the row itself), and ``(R, 1)`` the smallest and the
            largest distance to any column but the row itself.
        """
        fast = self._fast(rows)
        farthest = fast.argmax(1, keepdim=True)
        _mask_own(fast, own)
        wanted = min(slots + _SPARE_CANDIDATES, fast.shape[1])
        values, candidates = fast.topk(wanted, largest=False, sorted=True)
        # By index first: the stable sort by distance then breaks ties by lower index.
        candidates = candidates.sort(dim=1).values
        distance = _mask_own(self._exact(rows, candidates), own, candidates)
        distance, order = distance.sort(dim=1, stable=True)
        candidates, distance = candidates.gather(1, order)[:, :slots], distance[:, :slots]
        if wanted < fast.shape[1]:
            # A column left out may be as near as the last one taken: these few rows are computed from the differences.
            last = distance[:, -1].square()
            unsure = values[:, -1] - values[:, slots - 1] <= 2 * self._rounding(rows, last)
            if unsure.any():
                exact, order = self._all(rows[unsure], own[unsure]).sort(dim=1, stable=True)
                candidates[unsure], distance[unsure] = order[:, :slots], exact[:, :slots]
        return candidates, distance, distance[:, :1], self._exact(rows, farthest)

    def to(self, rows: Tensor, own: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Distances to ``chosen`` columns ``(R, K)``, and ``(R, 1)`` the smallest and the largest as in ``nearest``."""
        fast = self._fast(rows)
        farthest = fast.argmax(1, keepdim=True)
        closest = _mask_own(fast, own).argmin(1, keepdim=True)
        columns = torch.cat([chosen, closest], 1)
        distance = self._exact(rows, columns)
        low = _mask_own(distance.clone(), own, columns).amin(1, keepdim=True)
        # Where the smallest distance drowns in rounding, the column found need not be the closest.
        squared = low[:, 0].square()
        unsure = squared <= 100 * self._rounding(rows, squared)
        if unsure.any():
            low[unsure] = self._all(rows[unsure], own[unsure]).amin(1, keepdim=True)
        return distance[:, :-1], low, self._exact(rows, farthest)

    def _fast(self, rows: Tensor) -> Tensor:
        """``(R, E)`` squared distances less the squared norm of each row, which does not change the order in a row."""
        return torch.addmm(self.norms, self.points[rows] - self.center, self.centered.t(), alpha=-2)

    def _exact(self, rows: Tensor, columns: Tensor) -> Tensor:
        """``(R, K)`` distances to ``columns (R, K)`` from the differences."""
        size = max(1, _EXACT_NUMBERS // (columns.shape[1] * self.points.shape[1]))
        pieces = [
            (self.targets[some] - self.points[row][:, None]).square_().sum(2)
            for row, some in zip(rows.split(size), columns.split(size), strict=True)
        ]
        return torch.cat(pieces).sqrt_()

    def _all(self, rows: Tensor, own: Tensor) -> Tensor:
        """``(R, E)`` distances to all columns from the differences, inf for the row itself; slow, for few rows."""
        distance = torch.cdist(self.points[rows], self.targets, compute_mode='donot_use_mm_for_euclid_dist')
        return _mask_own(distance, own)

    def _rounding(self, rows: Tensor, squared: Tensor) -> Tensor:
        """``(R,)`` a bound on the rounding error of ``_fast`` for columns within a squared distance ``(R,)``.

        A random walk over D products with a safety factor of 4; a column within d of a row with norm r has norm r + d
        at most.
        """
        scale = 3 * (self.points[rows] - self.center).square().sum(1) + 2 * squared
        return 4 * torch.finfo(scale.dtype).eps * self.points.shape[1] ** 0.5 * scale


def _mask_own(distance: Tensor, own: Tensor, columns: Tensor | None = None) -> Tensor:
    """Set the entry of the row itself to inf, in place; ``columns (R, K)`` says which columns the entries are."""
    if columns is None:
        rows = (own >= 0).nonzero().flatten()
        distance[rows, own[rows]] = torch.inf
        return distance
    return distance.masked_fill_(columns == own[:, None], torch.inf)


def _relative(distance: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Scale to [0, 1] by the range; 0 where the range is 0."""
    span = high - low
    return torch.where(span > 0, (distance - low) / span.clamp(min=torch.finfo(span.dtype).tiny), 0.0).clamp(0, 1)


def at_least_float32(values: Tensor) -> Tensor:
    """Raise half precision to fp32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def check_statistics(
    count: Tensor,
    mean: Tensor,
    var: Tensor,
    num_neighbors: int,
    sigma_mean: float,
    sigma_cov: float,
    block_size: int,
) -> None:
    """Refuse statistics whose shapes do not fit, and settings out of range.

    Raises:
        ValueError: naming them.
    """
    if count.ndim != 1 or mean.ndim != 2 or mean.shape != var.shape or len(mean) != len(count):
        raise ValueError(
            'count must be (C,), mean and var (C, D), '
            f'got {tuple(count.shape)}, {tuple(mean.shape)} and {tuple(var.shape)}'
        )
    for name, value in dict(num_neighbors=num_neighbors, block_size=block_size).items():
        if value < 1:
            raise ValueError(f'{name} must be at least 1, got {value}')
    for name, value in dict(sigma_mean=sigma_mean, sigma_cov=sigma_cov).items():
        if not value > 0:
            raise ValueError(f'{name} must be positive, got {value}')
