"""Exact scores of single pairs of rows, in fp64: they decide where the rounding of a matrix product cannot.

Each score is a function of its two rows alone: sums are taken in one fixed order, whatever the block, the place in it,
or the device. Equal rows have equal scores, and rows of small whole numbers tie as arithmetic says. Larger is nearer.
"""

import torch
from torch import Tensor

# Exponents that leave room for the squares of rows of a type, and whose powers of two it holds.
_EXPONENTS = {torch.float64: 1000}
_EXPONENTS_ELSEWHERE = 126
# Squared sine of an angle that is rounding.
_NO_ANGLE = 2.0**-100


def power_of_two(magnitudes: Tensor) -> Tensor:
    """Return what takes magnitudes to [1/2, 1) when multiplied, a power of two; 1 where they are 0."""
    limit = _EXPONENTS.get(magnitudes.dtype, _EXPONENTS_ELSEWHERE)
    exponents = torch.frexp(magnitudes.cpu() if magnitudes.device.type == 'mps' else magnitudes).exponent
    # The bits of an fp64 number: its exponent, from 1023 on, and a fraction of 0.
    bits = (1023 - exponents.long().clamp_(-limit, limit)) << 52
    return bits.view(torch.float64).to(magnitudes.dtype).to(magnitudes.device)


def scaled_rows(rows: Tensor) -> Tensor:
    """``(N, D)`` rows whose largest magnitude is in [1/2, 1), by a power of two each, which is exact.

    Subnormal rows stay smaller, as their power of two has no reciprocal; they are at least 2^-74 (fp32: 2^-23).
    """
    return rows * power_of_two(torch.maximum(rows.amax(1, keepdim=True), -rows.amin(1, keepdim=True)))


def tree_sum(terms: Tensor) -> Tensor:
    """``(N, D)`` -> ``(N,)`` sums of rows: halves are added until one column is left, whatever N is. Overwrites."""
    width = terms.shape[1]
    while width > 1:
        half = (width + 1) // 2
        terms[:, : width - half] += terms[:, half:width]
        width = half
    return terms[:, 0]


def dot_score(query: Tensor, gallery: Tensor) -> Tensor:
    """``(N, D)`` pairs -> ``(N,)`` q.g."""
    return tree_sum(query * gallery)


def euclidean_score(query: Tensor, gallery: Tensor) -> Tensor:
    """``(N, D)`` pairs -> ``(N,)`` -|q - g|^2, from differences: near pairs lose no digits."""
    return tree_sum((query - gallery).square_()).neg_()


def cosine_score(query: Tensor, gallery: Tensor) -> Tensor:
    r"""``(N, D)`` pairs -> ``(N,)`` numbers that rise with the cosine, to full precision at small angles.

    With c the cosine and s the sine, c |c| - 1 where c^2 <= 1/2; beyond, -s^2 for c > 0 and s^2 - 2 for c < 0, as the
    cosine of a small angle is 1 to all digits.

    .. math::
        c |c| = \frac{(q \cdot g) |q \cdot g|}{|q|^2 |g|^2}, \quad
        s^2 = \frac{\sum_i (|q|^2 g_i - (q \cdot g) q_i)^2}{|q|^4 |g|^2}

    Rows of zeros have the cosine 0; angles below the rounding of fp64, about 1e-15, are 0. Quotients of whole numbers
    without a root: where these are exact, rows at one angle tie.
    """
    dot, squared, other = tree_sum(query * gallery), tree_sum(query.square()), tree_sum(gallery.square())
    both = squared * other
    score = torch.where(both > 0, dot * dot.abs() / both, 0)
    steep = (score.abs() > 0.5).nonzero().squeeze(1)
    score -= 1
    across = gallery[steep] * squared[steep, None] - query[steep] * dot[steep, None]
    sine = tree_sum(across.square_()) / (squared[steep] * both[steep])
    sine = torch.where(sine > _NO_ANGLE, sine, 0)
    score[steep] = torch.where(dot[steep] > 0, -sine, sine - 2)
    return score
