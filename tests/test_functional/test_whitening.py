"""PCA-whitening: its definition, an SVD of the centered data as an independent way there, and bad input."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from mmdml.functional import whitening as module
from mmdml.functional.whitening import PCAWhitening


def correlated(rows=60, dim=6, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(rows, dim)) @ random.normal(size=(dim, dim)) + 3 * random.normal(size=dim)


@settings(max_examples=30, deadline=None)
@given(dim=st.integers(1, 6), rows=st.integers(8, 40), seed=st.integers(0, 1000))
def test_similarities_equal_those_of_an_svd(dim, rows, seed):
    x, y = correlated(rows, seed=seed), correlated(9, seed=seed + 1)
    _, singular, directions = np.linalg.svd(x - x.mean(0), full_matrices=False)
    expected = (y - x.mean(0)) @ (directions[:dim] / singular[:dim, None] * np.sqrt(rows - 1)).T
    whitening = PCAWhitening.fit(x, dim, eps=0)
    raw = whitening.transform(y, normalize=False).numpy()
    # Directions are the same up to their signs, which no similarity sees.
    np.testing.assert_allclose(raw @ raw.T, expected @ expected.T, rtol=1e-6, atol=1e-8)
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    transformed = whitening.transform(y).numpy()
    np.testing.assert_allclose(transformed @ transformed.T, unit @ unit.T, atol=1e-7)


def test_whitened_training_data_have_zero_mean_and_unit_covariance(monkeypatch):
    monkeypatch.setattr(module, '_ROWS', 7)
    x = torch.from_numpy(correlated())
    white = PCAWhitening.fit(x).transform(x, normalize=False)
    torch.testing.assert_close(white.mean(0), torch.zeros(6, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(white.t().cov(), torch.eye(6, dtype=torch.float64), atol=1e-9, rtol=0)


def test_components_come_by_falling_variance():
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 5.0, 1.0])
    projection = PCAWhitening.fit(x, dim=2).projection
    assert projection.shape == (2, 3)
    assert projection.abs().argmax(1).tolist() == [1, 2]
    assert (projection.gather(1, projection.abs().argmax(1, keepdim=True)) > 0).all()
    assert 1 / projection[0].norm() == pytest.approx(5, rel=0.1)


def test_eps_keeps_directions_without_variance_small():
    x = correlated(50)
    x[:, 5] = x[:, 4]
    whitening = PCAWhitening.fit(x, eps=1e-2)
    lengths = whitening.projection.norm(dim=1)
    assert lengths.max() == pytest.approx(10 * lengths.min().item())
    rounding = x + 1e-9 * np.random.default_rng(0).normal(size=x.shape)
    np.testing.assert_allclose(whitening.transform(rounding), whitening.transform(x), atol=1e-6)


def test_precision_of_the_input_is_kept_and_half_becomes_single():
    x = torch.from_numpy(correlated())
    whitening = PCAWhitening.fit(x.float())
    assert whitening.mean.dtype == whitening.projection.dtype == torch.float64
    assert whitening.transform(x).dtype == torch.float64
    assert whitening.transform(x.half()).dtype == torch.float32
    torch.testing.assert_close(whitening.transform(x.float()), whitening.transform(x).float(), atol=1e-4, rtol=0)


def test_a_whitened_row_close_to_the_mean_has_a_direction():
    whitening = PCAWhitening(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    row = 2.0**-100 * torch.tensor([[0.6, -0.8]])
    torch.testing.assert_close(whitening.transform(row), torch.tensor([[0.6, -0.8]]))


def test_state_survives_a_file_loaded_with_weights_only(tmp_path):
    x = torch.from_numpy(correlated())
    whitening = PCAWhitening.fit(x, dim=4)
    torch.save(whitening.state_dict(), tmp_path / 'whitening.pth')
    again = PCAWhitening.from_state_dict(torch.load(tmp_path / 'whitening.pth', weights_only=True))
    assert torch.equal(again.transform(x), whitening.transform(x))


@pytest.mark.parametrize(
    ('x', 'options', 'message'),
    [
        (torch.randn(4, 6), {}, '4 embeddings vary in at most 3 directions: 6 components need at least 7'),
        (torch.randn(4, 6), dict(dim=4), '4 components need at least 5'),
        (torch.randn(9, 6), dict(dim=7), 'dim must be 1..6, the dimensions of the embeddings, got 7'),
        (torch.randn(9, 6), dict(dim=0), 'dim must be 1..6'),
        (torch.randn(9, 6), dict(eps=-1), 'eps must be in'),
        (torch.ones(9, 6), {}, 'all 9 embeddings are equal'),
        (torch.zeros(9, 6), {}, 'all 9 embeddings are equal'),
        (torch.eye(9, 6).mul(torch.tensor([1.0, 1, 1, 1, 1, 0])), dict(eps=0), '5 directions only'),
        (torch.full((9, 2), float('nan')), {}, 'not finite'),
        (torch.zeros(0, 6), {}, '0 embeddings vary in at most 0'),
        (torch.zeros(9), {}, 'must be a matrix'),
    ],
)
def test_bad_input_to_fit_is_named(x, options, message):
    with pytest.raises(ValueError, match=message):
        PCAWhitening.fit(x, **options)


def test_fewer_rows_than_dimensions_suffice_for_fewer_components():
    x = torch.from_numpy(correlated(5))
    white = PCAWhitening.fit(x, dim=4).transform(x, normalize=False)
    torch.testing.assert_close(white.t().cov(), torch.eye(4, dtype=torch.float64), atol=1e-8, rtol=0)


def test_bad_input_to_transform_and_state_is_named():
    whitening = PCAWhitening.fit(torch.from_numpy(correlated()))
    with pytest.raises(ValueError, match='fitted on 6 dimensions, got 5'):
        whitening.transform(torch.zeros(3, 5))
    with pytest.raises(ValueError, match='not finite'):
        whitening.transform(torch.full((3, 6), float('inf')))
    with pytest.raises(ValueError, match=r"got \['mean'\]"):
        PCAWhitening.from_state_dict({'mean': torch.zeros(3)})
    with pytest.raises(ValueError, match=r'got \(3,\) and \(2, 4\)'):
        PCAWhitening.from_state_dict({'mean': torch.zeros(3), 'projection': torch.zeros(2, 4)})
