"""PCA-whitening of embeddings: directions that all of them share stop to dominate the similarity."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmdml.utils.numbers import is_number, is_whole

from .exact_products import exact_products
from .inputs import check_finite, to_matrix
from .space import unit_rows

#: Rows in float64 at once: 64 MB at 512 dimensions.
_ROWS = 16384


@dataclass(frozen=True)
class PCAWhitening:
    r"""PCA-whitening (Jegou and Chum, ECCV 2012, "Negative evidences and co-occurrences in image retrieval").

    With the mean :math:`\mu` of the embeddings it was fitted on and the largest eigenvalues :math:`\lambda_i` of their
    covariance, :math:`u_i` their eigenvectors:

    .. math::
        \hat y_i = \frac{u_i^\top (x - \mu)}{\sqrt{\lambda_i}}, \quad y = \frac{\hat y}{|\hat y|}

    Fit it on embeddings of the training images or of the gallery, never of the queries, and as they are searched: unit
    vectors, if it is by cosine.

    Attributes:
        mean: ``(D,)`` float64, on the CPU.
        projection: ``(dim, D)`` float64, row i is :math:`u_i / \sqrt{\lambda_i}`, largest eigenvalue first.

    Example:
        >>> whitening = PCAWhitening.fit(train_embeddings, dim=128)
        >>> query, gallery = whitening.transform(query), whitening.transform(gallery)
    """

    mean: Tensor
    projection: Tensor

    @classmethod
    @torch.no_grad()
    def fit(cls, embeddings: Tensor | np.ndarray, dim: int | None = None, eps: float = 1e-6) -> 'PCAWhitening':
        """Mean and principal directions of embeddings, summed in float64.

        Args:
            embeddings: ``(N, D)``, N > dim.
            dim: components to keep, 1..D. Default: D.
            eps: eigenvalues below this share of the largest one count as that share, in [0, 1]: directions of nothing
                but rounding errors are not blown up to the size of the others.

        Raises:
            ValueError: if ``embeddings`` are no finite matrix, too few or all equal; if a setting is out of range.
        """
        embeddings = to_matrix('embeddings', embeddings, 'cpu')
        check_finite('the', embeddings)
        rows, width = embeddings.shape
        dim = width if dim is None else dim
        if not is_whole(dim) or not 1 <= dim <= width:
            raise ValueError(f'dim must be 1..{width}, the dimensions of the embeddings, got {dim!r}')
        if not is_number(eps) or not 0 <= eps <= 1:
            raise ValueError(f'eps must be in [0, 1], a share of the largest eigenvalue, got {eps!r}')
        if rows <= dim:
            raise ValueError(
                f'{rows} embeddings vary in at most {max(rows - 1, 0)} directions: {dim} components need at least '
                f'{dim + 1} of them, or give a smaller dim'
            )
        mean = sum(block.double().sum(0) for block in embeddings.split(_ROWS)) / rows
        covariance = torch.zeros(width, width, dtype=torch.float64)
        for block in embeddings.split(_ROWS):
            centered = block.double() - mean
            covariance += centered.t() @ centered / (rows - 1)
        values, vectors = torch.linalg.eigh(covariance)
        values, directions = values.flip(0)[:dim], vectors.t().flip(0)[:dim]
        # Rounding leaves a variance of about the square of the precision where all rows are equal.
        if values[0] <= torch.finfo(embeddings.dtype).eps ** 2 * mean.square().sum():
            raise ValueError(f'all {rows} embeddings are equal: there is nothing to whiten')
        scale = values.clamp_min(eps * float(values[0]))
        if scale.min() <= 0:
            raise ValueError(
                f'the embeddings vary in {int((values > 0).sum())} directions only: '
                f'{dim} components need an eps above 0'
            )
        # An eigenvector is one only up to its sign: the largest entry is positive, whichever LAPACK found it.
        largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
        return cls(mean, directions * largest.sign() / scale.sqrt()[:, None])

    @torch.no_grad()
    def transform(self, embeddings: Tensor | np.ndarray, normalize: bool = True) -> Tensor:
        """Whitened embeddings.

        Args:
            embeddings: ``(N, D)``, of the kind that was fitted on.
            normalize: whether to return unit vectors, as the paper does.

        Returns:
            ``(N, dim)``, on the device of ``embeddings``, fp32, or fp64 if they are.

        Raises:
            ValueError: if ``embeddings`` are no finite matrix of D columns.
        """
        embeddings = to_matrix('embeddings', embeddings, None)
        if embeddings.shape[1] != len(self.mean):
            raise ValueError(f'the whitening was fitted on {len(self.mean)} dimensions, got {embeddings.shape[1]}')
        check_finite('the', embeddings)
        with exact_products(embeddings.device):
            # The type first: MPS refuses to take fp64.
            mean, projection = (
                fitted.to(embeddings.dtype).to(embeddings.device) for fitted in (self.mean, self.projection)
            )
            whitened = (embeddings - mean) @ projection.t()
        return unit_rows(whitened) if normalize else whitened

    def state_dict(self) -> dict[str, Tensor]:
        """Plain tensors, which load with weights-only loading."""
        return {'mean': self.mean, 'projection': self.projection}

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor]) -> 'PCAWhitening':
        """Return the whitening that :meth:`state_dict` saved.

        Raises:
            ValueError: if keys or shapes are not those of a whitening.
        """
        if set(state) != {'mean', 'projection'}:
            raise ValueError(f"the state of a whitening has the keys 'mean' and 'projection', got {sorted(state)}")
        mean, projection = state['mean'], state['projection']
        if mean.ndim != 1 or projection.ndim != 2 or projection.shape[1] != len(mean):
            raise ValueError(
                'the state of a whitening is mean (D,) and projection (dim, D), got '
                f'{tuple(mean.shape)} and {tuple(projection.shape)}'
            )
        return cls(mean.double().cpu(), projection.double().cpu())
