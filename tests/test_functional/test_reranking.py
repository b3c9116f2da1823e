"""k-reciprocal encoding against a dense reference in float64, written set by set from the definitions."""

import tracemalloc

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from mmdml.evaluation.functional import retrieval_scores
from mmdml.functional import neighbor_sets
from mmdml.functional import reranking as module
from mmdml.functional.reranking import KReciprocalEncoding


def reference(query, gallery=None, k1=20, k2=6, weight=0.3, distance='cosine'):
    rows = np.asarray(query, np.float64)
    start = 0
    if gallery is not None:
        start, rows = len(rows), np.concatenate([rows, np.asarray(gallery, np.float64)])
    if distance == 'cosine':
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    size = len(rows)
    d = np.array([[((p - q) ** 2).sum() for q in rows] for p in rows])
    d /= d.max(1, keepdims=True)
    order = [sorted(range(size), key=lambda j, i=i: (j != i, d[i, j])) for i in range(size)]

    def mutual(p, k):
        return {g for g in order[p][: k + 1] if p in order[g][: k + 1]}

    v = np.zeros((size, size))
    for p in range(size):
        core = mutual(p, k1)
        members = set(core)
        for q in core:
            friends = mutual(q, int(np.around(k1 / 2)))
            if 3 * len(core & friends) > 2 * len(friends):
                members |= friends
        for g in members:
            v[p, g] = np.exp(-d[p, g])
        v[p] /= v[p].sum()
    v = np.array([np.mean([v[j] for j in order[p][:k2]], axis=0) for p in range(size)])
    jaccard = np.array([[1 - np.minimum(a, b).sum() / np.maximum(a, b).sum() for b in v[start:]] for a in v])
    return ((1 - weight) * jaccard + weight * d[:, start:])[: len(query)]


def clustered(rows, seed=0, classes=5, dim=6, noise=0.8):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows)
    return random.normal(size=(classes, dim))[labels] + noise * random.normal(size=(rows, dim)), labels


@settings(max_examples=40, deadline=None)
@given(
    queries=st.integers(1, 12),
    gallery=st.integers(0, 25),
    k1=st.integers(1, 12),
    k2=st.integers(1, 7),
    weight=st.floats(0, 1),
    distance=st.sampled_from(['cosine', 'euclidean']),
    seed=st.integers(0, 1000),
)
def test_distances_equal_the_dense_reference(queries, gallery, k1, k2, weight, distance, seed):
    x, _ = clustered(queries + gallery + 1, seed)
    # Without a gallery the queries search each other; then two of them at least.
    sides = (x[:queries], x[queries:]) if gallery else (x,)
    expected = reference(*sides, k1=k1, k2=k2, weight=weight, distance=distance)
    encoding = KReciprocalEncoding(*sides, k1=k1, k2=k2, weight=weight, distance=distance, block_size=7)
    np.testing.assert_allclose(encoding.distances(0, len(x)).numpy(), expected, atol=1e-9)


def test_single_precision_with_default_settings_equals_the_reference():
    x, _ = clustered(90, dim=16)
    distances = KReciprocalEncoding(x[:30].astype(np.float32), x[30:].astype(np.float32)).distances(0, 30)
    assert distances.dtype == torch.float32
    np.testing.assert_allclose(distances.numpy(), reference(x[:30], x[30:]), atol=2e-6)


def test_blocks_and_pieces_change_nothing(monkeypatch):
    x, _ = clustered(70)
    whole = KReciprocalEncoding(x, block_size=1000).distances(0, 70)
    # Every path in many pieces: search, sets, kernel and overlap.
    monkeypatch.setattr(module, '_MAX_BLOCK_ENTRIES', 300)
    monkeypatch.setattr(neighbor_sets, '_ROWS', 9)
    monkeypatch.setattr(neighbor_sets, '_PAIRS', 50)
    encoding = KReciprocalEncoding(x)
    parts = [encoding.distances(start, start + 11) for start in range(0, 70, 11)]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-12, rtol=0)
    # A distant page and one beyond the end are empty.
    assert encoding.distances(70, 90).shape == encoding.distances(5, 2).shape == (0, 70)


def test_top_lists_the_nearest_in_order():
    x, _ = clustered(40)
    encoding = KReciprocalEncoding(x[:10], x[10:], k1=6, block_size=3)
    rows, distances = encoding.top(7)
    expected = encoding.distances(0, 10)
    assert rows.shape == (10, 7)
    torch.testing.assert_close(distances, expected.sort(1).values[:, :7])
    torch.testing.assert_close(expected.gather(1, rows), distances)
    assert encoding.top(100)[0].shape == (10, 30)
    with pytest.raises(ValueError, match='n must be at least 1, got 0'):
        encoding.top(0)


def test_weight_one_is_the_original_order():
    x, _ = clustered(40)
    unit = torch.nn.functional.normalize(torch.from_numpy(x))
    rows, _ = KReciprocalEncoding(x[:10], x[10:], weight=1.0).top(30)
    assert torch.equal(rows, (unit[:10] @ unit[10:].t()).argsort(1, descending=True))


def test_a_neighbor_that_does_not_reciprocate_falls_behind():
    # On a line: 0 is nearest to the query, but has its own company; 2.1 is a little farther, and alone with it.
    query = torch.tensor([[1.0]])
    gallery = torch.tensor([[0.0], [-0.1], [-0.2], [-0.3], [2.1]])
    options = dict(k1=2, k2=1, distance='euclidean')
    assert KReciprocalEncoding(query, gallery, weight=1.0, **options).top(1)[0].item() == 0
    assert KReciprocalEncoding(query, gallery, weight=0.3, **options).top(1)[0].item() == 4


def test_reranking_improves_noisy_clusters():
    x, labels = clustered(200, classes=8, dim=10, noise=1.1)
    before = retrieval_scores(x, labels, metrics=['MAP@R'])['MAP@R']
    distances = KReciprocalEncoding(x).distances(0, 200).numpy()
    np.fill_diagonal(distances, np.inf)
    after = []
    for row, label in zip(distances, labels, strict=True):
        positives = (labels == label).sum() - 1
        hits = labels[np.argsort(row)[:positives]] == label
        after.append((hits * np.cumsum(hits) / np.arange(1, positives + 1)).sum() / positives)
    assert np.mean(after) > before + 0.05


def test_duplicates_and_equal_rows_stay_finite_and_first():
    x, _ = clustered(12)
    x = np.concatenate([x, x, x])
    distances = KReciprocalEncoding(x, k1=2, k2=2).distances(0, 36)
    assert torch.isfinite(distances).all()
    same = KReciprocalEncoding(torch.ones(30, 4), k1=3).distances(0, 30)
    assert torch.isfinite(same).all() and same.min() >= 0 and same.max() <= 1 + 1e-6
    # A group that k1 reaches whole is at distance 0 to itself.
    groups = np.repeat(np.eye(3), 4, axis=0)
    distances = KReciprocalEncoding(groups, k1=3, k2=1).distances(0, 12)
    expected = 1 - np.kron(np.eye(3), np.ones((4, 4)))
    np.testing.assert_allclose(distances.numpy(), expected, atol=1e-9)


def test_a_gallery_of_one_and_k_beyond_all_rows():
    distances = KReciprocalEncoding(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]])).distances(0, 1)
    np.testing.assert_allclose(distances.numpy(), reference([[1.0, 0.0]], [[1.0, 1.0]]), atol=1e-6)


def test_half_precision_and_autocast_are_computed_in_single():
    x, _ = clustered(40)
    x = torch.from_numpy(x).bfloat16()
    expected = KReciprocalEncoding(x.float()).distances(0, 40)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(KReciprocalEncoding(x).distances(0, 40), expected)


@pytest.mark.parametrize('distance', ['cosine', 'euclidean'])
@pytest.mark.parametrize('exponent', [-100, 100])
def test_the_unit_of_the_embeddings_does_not_matter(distance, exponent):
    x = torch.from_numpy(clustered(40)[0]).float()
    expected = KReciprocalEncoding(x, distance=distance).distances(0, 40)
    scaled = KReciprocalEncoding(x * 2.0**exponent, distance=distance).distances(0, 40)
    torch.testing.assert_close(scaled, expected, atol=0, rtol=0)


def test_encoding_never_holds_a_dense_matrix():
    x = torch.from_numpy(clustered(6000, classes=600, dim=8)[0]).float()
    tracemalloc.start()
    encoding = KReciprocalEncoding(x, block_size=64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # numpy and scipy only, which make the sets: a dense V in fp32 alone is 144 MB.
    assert peak < 72e6
    entries = len(encoding._column_values)
    assert entries < 6000 * 6000 / 50


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(k1=0), 'k1 must be an integer of at least 1, got 0'),
        (dict(k2=0), 'k2 must be'),
        (dict(k2=1.5), 'k2 must be an integer of at least 1, got 1.5'),
        (dict(weight=1.1), r'weight \(lambda\) must be in \[0, 1\], got 1.1'),
        (dict(distance='dot'), "unknown distance 'dot'"),
        (dict(block_size=0), 'block_size'),
        (dict(query=torch.zeros(0, 3)), 'the query is empty'),
        (dict(gallery=torch.zeros(0, 3)), 'the gallery is empty'),
        (dict(gallery=torch.zeros(4, 2)), 'query has 3 dimensions, the gallery 2'),
        (dict(gallery=torch.full((4, 3), float('inf'))), 'gallery embeddings are not finite'),
        (dict(gallery=torch.full((4, 3), 3e38), distance='euclidean'), 'too large: their sum overflows torch.float32'),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = dict(query=torch.randn(5, 3), gallery=torch.randn(6, 3)) | change
    with pytest.raises(ValueError, match=message):
        KReciprocalEncoding(**arguments)
