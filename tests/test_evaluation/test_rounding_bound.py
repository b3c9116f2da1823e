"""The bound on the rounding of a product holds with room to spare, where all terms have one sign as elsewhere."""

import numpy as np
import pytest
import torch

from mmdml.functional.distances import DISTANCES
from mmdml.functional.double_scores import DoubleScores
from mmdml.functional.exact_products import exact_products


def rows_of(kind, number, dim, distance=None):
    rows = any_rows(kind, number, dim)
    # Points of the unit ball, the longest of length 0.9.
    return rows / rows.norm(dim=1).max() * 0.9 if distance == 'hyperbolic' else rows


def any_rows(kind, number, dim):
    random = torch.Generator().manual_seed(dim)
    rows = torch.randn(number, dim, generator=random)
    if kind == 'one sign':
        return rows.abs()
    if kind == 'nearly equal':
        return rows[:1] + 1e-3 * rows
    if kind == 'sparse':
        return rows * (torch.rand(rows.shape, generator=random) < 0.1) + 1e-3 * rows
    return rows


@pytest.mark.parametrize('kind', ['random', 'one sign', 'nearly equal', 'sparse'])
@pytest.mark.parametrize('distance', DISTANCES)
@pytest.mark.parametrize('dim', [1, 2, 17, 128, 512, 2048])
def test_differences_of_scores_err_by_less_than_the_window(kind, distance, dim):
    rows = rows_of(kind, 192, dim, distance)
    space = DISTANCES[distance](rows, rows)
    prepared, window = space.queries(rows)
    with exact_products(rows.device):
        scores = (prepared @ space.gallery.T).double()
    double = DoubleScores(space)
    directions, _ = double.directions(rows)
    exact = torch.zeros_like(scores)
    double.put(directions, exact)
    # 'euclidean' in fp64 leaves out a number that is one for all gallery rows, and 'dot' keeps the scale of the query.
    error = scores - exact
    spread = error.amax(1) - error.amin(1)
    assert (spread <= window[:, 0].double()).all()
    # The bound is of the right order: errors come within a factor of 300 of it.
    if kind != 'sparse' and dim > 2:
        assert float((spread / window[:, 0].double()).max()) > 1 / 300


@pytest.mark.parametrize('distance', DISTANCES)
def test_double_scores_have_the_order_of_exact_scores(distance):
    rows = rows_of('nearly equal', 60, 24, distance)
    space = DISTANCES[distance](rows, rows)
    double = DoubleScores(space)
    directions, window = double.directions(rows)
    scores = torch.zeros(60, 60, dtype=torch.float64)
    double.put(directions, scores)
    pairs = torch.cartesian_prod(torch.arange(60), torch.arange(60)).unbind(1)
    exact = space.pairs(rows, *pairs).view(60, 60)
    alone = double.pairs(directions, *pairs).view(60, 60)
    for query in range(60):
        assert np.abs((alone - scores)[query].numpy()).max() <= float(window[query])
        order = exact[query].argsort()
        assert (scores[query][order].diff() >= -window[query]).all()
