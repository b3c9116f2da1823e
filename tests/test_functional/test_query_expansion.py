"""Query expansion against a loop over queries in float64."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from mmdml.functional import query_expansion as module
from mmdml.functional.query_expansion import alpha_query_expansion


def unit(rows):
    return np.asarray(rows, np.float64) / np.linalg.norm(rows, axis=-1, keepdims=True)


def reference(query, gallery=None, k=10, alpha=3.0, same=None):
    query = unit(query)
    if gallery is None:
        gallery, same = query, np.eye(len(query), dtype=bool)
    gallery = unit(gallery)
    expanded = []
    for i, q in enumerate(query):
        allowed = [j for j in range(len(gallery)) if same is None or not same[i, j]]
        nearest = sorted(allowed, key=lambda j, q=q: -(q @ gallery[j]))[:k]
        weights = [1.0 if alpha == 0 else max(q @ gallery[j], 0.0) ** alpha for j in nearest]
        expanded.append(
            unit(q + sum((w * gallery[j] for w, j in zip(weights, nearest, strict=True)), np.zeros_like(q)))
        )
    return np.array(expanded)


@settings(max_examples=60, deadline=None)
@given(
    queries=st.integers(1, 9),
    gallery=st.integers(0, 15),
    k=st.integers(1, 20),
    alpha=st.sampled_from([0, 0.5, 1, 3.0]),
    seed=st.integers(0, 1000),
)
def test_expansion_equals_the_reference(queries, gallery, k, alpha, seed):
    random = np.random.default_rng(seed)
    sides = [random.normal(size=(rows, 4)) for rows in (queries, gallery) if rows]
    expanded = alpha_query_expansion(*sides, k=k, alpha=alpha, block_size=2)
    np.testing.assert_allclose(expanded.numpy(), reference(*sides, k=k, alpha=alpha), atol=1e-9)


def test_a_query_moves_towards_its_neighbor_by_the_power_of_their_similarity():
    query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [0.0, -2.0]])
    expected = torch.tensor([[1 + 0.36 * 0.6, 0.36 * 0.8]])
    expanded = alpha_query_expansion(query, gallery, k=1, alpha=2)
    torch.testing.assert_close(expanded, torch.nn.functional.normalize(expected))


def test_alpha_zero_is_the_mean_of_query_and_neighbors():
    query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [-0.6, 0.8]])
    expanded = alpha_query_expansion(query, gallery, k=2, alpha=0)
    torch.testing.assert_close(expanded, torch.nn.functional.normalize(torch.tensor([[0.4, 1.8]])))


def test_opposite_neighbors_do_not_move_a_query():
    query, gallery = torch.tensor([[0.0, 3.0]]), torch.tensor([[0.0, -1.0], [0.6, -0.8]])
    assert torch.equal(alpha_query_expansion(query, gallery, k=2), torch.tensor([[0.0, 1.0]]))


def test_rows_with_the_id_of_the_query_are_left_out():
    random = np.random.default_rng(0)
    query, gallery = random.normal(size=(5, 4)), random.normal(size=(8, 4))
    query_ids, gallery_ids = list('abcde'), list('ccaxyzbd')
    same = np.array([[q == g for g in gallery_ids] for q in query_ids])
    expected = reference(query, gallery, k=3, same=same)
    expanded = alpha_query_expansion(query, gallery, k=3, query_ids=query_ids, gallery_ids=gallery_ids)
    np.testing.assert_allclose(expanded.numpy(), expected, atol=1e-9)
    assert abs(expected - reference(query, gallery, k=3)).max() > 1e-3


def test_own_rows_with_one_id_do_not_see_each_other():
    query = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    expanded = alpha_query_expansion(query, k=5, alpha=1, query_ids=[7, 7, 8])
    expected = torch.tensor([[1.0, 0.0], [0.8, 0.6 + 0.6], [0.6 * 0.8, 1 + 0.6 * 0.6]])
    torch.testing.assert_close(expanded, torch.nn.functional.normalize(expected))


def test_a_single_row_without_others_stays_where_it_is():
    for alpha in (0, 3.0):
        assert torch.equal(alpha_query_expansion(torch.tensor([[0.0, 5.0]]), alpha=alpha), torch.tensor([[0.0, 1.0]]))


def test_duplicates_of_a_query_leave_it_in_place():
    query = torch.nn.functional.normalize(torch.randn(1, 6, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(alpha_query_expansion(query.expand(7, 6), k=4), query.expand(7, 6))


def test_blocks_change_nothing_and_precision_is_kept(monkeypatch):
    query = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    whole = alpha_query_expansion(query.double())
    assert whole.dtype == torch.float64
    monkeypatch.setattr(module, '_MAX_BLOCK_ENTRIES', 45)
    torch.testing.assert_close(alpha_query_expansion(query.double()), whole, atol=1e-12, rtol=0)
    assert alpha_query_expansion(query.half()).dtype == torch.float32
    assert alpha_query_expansion(query, query.double()).dtype == torch.float64


def test_rows_of_any_norm_have_a_direction():
    query = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    scale = 2.0 ** torch.linspace(-100, 100, 30).round()[:, None]
    torch.testing.assert_close(alpha_query_expansion(query * scale), alpha_query_expansion(query), atol=0, rtol=0)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(k=0), 'k must be an integer of at least 1, got 0'),
        (dict(alpha=-1), 'alpha must be 0 or more, got -1'),
        (dict(alpha=float('nan')), 'alpha must be 0 or more, got nan'),
        (dict(block_size=0), 'block_size must be at least 1, got 0'),
        (dict(query=torch.zeros(0, 3)), 'the query is empty'),
        (dict(gallery=torch.zeros(0, 3)), 'the gallery is empty'),
        (dict(gallery=torch.zeros(4, 2)), 'query has 3 dimensions, the gallery 2'),
        (dict(query=torch.full((4, 3), float('nan'))), 'query embeddings are not finite'),
        (dict(query_ids=[0, 1, 2, 3, 4]), 'takes both'),
        (dict(gallery=None, gallery_ids=[0]), 'without a gallery'),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = dict(query=torch.randn(5, 3), gallery=torch.randn(6, 3)) | change
    with pytest.raises(ValueError, match=message):
        alpha_query_expansion(**arguments)
