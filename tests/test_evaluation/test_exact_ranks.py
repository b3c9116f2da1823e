"""Ranks equal those of a plain brute force in higher precision, on data that rounding would decide.

The reference holds every score in numpy's long double (64 bits of mantissa, x86), each from its two rows alone. Cosines
are compared by the squared chord of the unit vectors, as the cosine of a small angle is 1 to all digits.
"""

import logging
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from mmdml.evaluation.functional import parse_measures, retrieval_scores, sharded_retrieval_scores
from mmdml.evaluation.functional.relevance import Relevance
from mmdml.evaluation.functional.searches import FaissSearch, MatrixSearch
from mmdml.functional.distances import DISTANCES
from mmdml.functional.exact_products import exact_products

#: Distances of rows of any length; for 'hyperbolic' see test_hyperbolic_distance.py.
FLAT = [name for name in DISTANCES if name != 'hyperbolic']
DEEP = ('mAP', 'MAP@R', 'RP', 'Recall@1', 'Recall@10')
SHALLOW = ('MAP@R', 'RP', 'Recall@1', 'Recall@10')


def reference_scores(query, gallery, distance, digits=None):
    """``(Q, G)`` long doubles, higher is nearer; ``digits`` makes those equal that differ by less."""
    query, gallery = (np.asarray(side.double().numpy(), np.longdouble) for side in (query, gallery))
    if distance == 'cosine':
        query, gallery = (
            side / np.maximum(np.sqrt((side * side).sum(1, keepdims=True)), np.longdouble('1e-4000'))
            for side in (query, gallery)
        )
    scores = np.empty((len(query), len(gallery)), np.longdouble)
    for row, out in zip(query, scores, strict=True):
        out[:] = (row * gallery).sum(1) if distance == 'dot' else -np.square(row - gallery).sum(1)
    if distance == 'cosine':
        # Rows of zeros have the cosine 0 with all.
        scores[:, ~gallery.any(1)] = scores[~query.any(1)] = -2
    return scores if digits is None else np.round(scores, digits)


def reference_ranks(scores, query_labels, gallery_labels, same, pessimistic):
    """For every query the ranks of its positives: negatives that are nearer, or as near, and positives before."""
    lists = []
    for row, label, own in zip(scores, query_labels, same, strict=True):
        positives = np.sort(row[(gallery_labels == label) & ~own])[::-1]
        negatives = np.sort(row[(gallery_labels != label) & ~own])
        side = 'left' if pessimistic else 'right'
        before = len(negatives) - np.searchsorted(negatives, positives, side=side)
        lists.append((before + np.arange(1, len(positives) + 1)).tolist())
    return lists


def found_ranks(search_class, query, query_labels, gallery, gallery_labels, ids, distance, metrics, rows):
    """Ranks by both rules, as lists without padding."""
    relevance = Relevance(torch.from_numpy(query_labels), torch.from_numpy(gallery_labels), ids)
    measures = parse_measures(metrics, (1,))
    pessimistic, optimistic = [], []
    with exact_products(query.device):
        search = search_class(DISTANCES[distance](query, gallery), relevance, measures, rows)
        for part in torch.arange(len(query)).split(rows):
            found = search.ranks(query[part], part)
            assert not found.unsettled.any()
            for lists, ranks in ((pessimistic, found.pessimistic), (optimistic, found.optimistic)):
                lists += [[rank for rank in row if rank < math.inf] for row in ranks.tolist()]
    return pessimistic, optimistic


def check(query, query_labels, gallery=None, gallery_labels=None, distance='cosine', rows=1024, digits=None):
    """Whole ranks by products, ranks up to R by products and by faiss, all against the reference."""
    ids = None
    same = np.zeros((len(query), len(query if gallery is None else gallery)), bool)
    if gallery is None:
        gallery, gallery_labels = query, query_labels
        ids = (torch.arange(len(query)),) * 2
        same = np.eye(len(query), dtype=bool)
    scores = reference_scores(query, gallery, distance, digits)
    sides = (query, query_labels, gallery, gallery_labels, ids, distance)
    expected = [
        reference_ranks(scores, query_labels, gallery_labels, same, pessimistic) for pessimistic in (True, False)
    ]
    for metrics, search in ((DEEP, MatrixSearch), (SHALLOW, MatrixSearch), (SHALLOW, FaissSearch)):
        for ours, right in zip(found_ranks(search, *sides, metrics, rows), expected, strict=True):
            for own, ranks in zip(ours, right, strict=True):
                if metrics == SHALLOW:
                    # Up to R, and the nearest up to 10; what is deeper need not be known, but must not be wrong.
                    depth = len(ranks)
                    shown = [rank for rank in ranks if rank <= depth]
                    assert [rank for rank in own if rank <= depth] == shown
                    if ranks and ranks[0] <= 10:
                        assert own[0] == ranks[0]
                else:
                    assert own == ranks
    return expected


def clusters(rows, classes, dim, noise, seed=0, wrong=0.0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows)
    points = random.normal(size=(classes, dim))[labels] + noise * random.normal(size=(rows, dim))
    labels = np.where(random.random(rows) < wrong, random.integers(0, classes, rows), labels)
    return torch.from_numpy(points), labels


def tight(angle, rows=90, dim=12, seed=0):
    """Unit vectors, the nearest about ``angle`` apart, in classes that overlap."""
    points, labels = clusters(rows, 6, dim, 1.0, seed)
    base = torch.randn(dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return base + angle * base.norm() * points, labels


TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize('dtype', TYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize('distance', FLAT)
@pytest.mark.parametrize('rows', [1, 17, 1024])
def test_random_and_clustered_rows(dtype, distance, rows):
    # Half precision comes as fp32 to a search; its values are those of few bits, so that many tie.
    for number, classes, dim, noise in ((70, 4, 16, 4.0), (110, 20, 7, 1.0), (50, 3, 200, 2.0)):
        points, labels = clusters(number, classes, dim, noise)
        points = points.to(dtype).to(torch.float64 if dtype == torch.float64 else torch.float32)
        check(points, labels, distance=distance, rows=rows)
        half = number // 3
        check(points[:half], labels[:half], points[half:], labels[half:], distance, rows)


@pytest.mark.parametrize('distance', FLAT)
@pytest.mark.parametrize('dim', [1, 2, 3])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_few_dimensions(dim, distance, dtype):
    points, labels = clusters(150, 15, dim, 0.3)
    # x / |x| is 1 or -1 but for rounding, in long doubles too.
    check(points.to(dtype), labels, distance=distance, rows=64, digits=15 if dim == 1 else None)


@pytest.mark.parametrize('angle', [1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize('distance', FLAT)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_tight_rows(angle, distance, dtype):
    points, labels = tight(angle)
    check(points.to(dtype), labels, distance=distance, rows=17)
    check(points[:30].to(dtype), labels[:30], points[30:].to(dtype), labels[30:], distance=distance)


@pytest.mark.parametrize('distance', FLAT)
@pytest.mark.parametrize('rows', [1, 17, 1024])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_duplicates_of_either_kind_tie(distance, rows, dtype):
    points, _ = clusters(40, 5, 33, 1.0)
    random = np.random.default_rng(1)
    points = points[torch.from_numpy(random.integers(0, 20, 60))].to(dtype)
    labels = random.integers(0, 3, 60)
    pessimistic, optimistic = check(points, labels, distance=distance, rows=rows)
    assert pessimistic != optimistic
    collapsed = points[:1].repeat(60, 1)
    pessimistic, optimistic = check(collapsed, labels, distance=distance, rows=rows)
    assert pessimistic[0][0] > 30 and optimistic[0][0] == 1


@pytest.mark.parametrize('distance', FLAT)
@pytest.mark.parametrize('dtype, scale', [(torch.float32, 1e-41), (torch.float64, 1e-311)], ids=str)
def test_subnormal_rows_have_the_ranks_of_their_directions(distance, dtype, scale):
    points, labels = clusters(40, 5, 10, 2.0)
    rows = (points.double() * scale).to(dtype)
    # Dividing by the smallest number is exact.
    whole = rows.double() / torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps ** -1
    options = dict(distance=distance, metrics=DEEP)
    expected = retrieval_scores(whole, labels, **options)
    assert 0 < expected['mAP'] < 1
    for scores in (retrieval_scores, sharded_retrieval_scores):
        assert scores(rows, labels, **options) == expected


@pytest.mark.parametrize('distance', FLAT)
@pytest.mark.parametrize('scale', [1e-25, 1e-10, 1e10, 1e25])
def test_scaled_rows_have_the_ranks_of_their_directions(distance, scale):
    points, labels = clusters(80, 5, 10, 2.0)
    for dtype in (torch.float32, torch.float64):
        check((points * scale).to(dtype), labels, distance=distance, rows=64)
    power = 2.0 ** round(math.log2(scale))
    points = points.float()
    options = dict(distance=distance, metrics=DEEP)
    for scores in (retrieval_scores, sharded_retrieval_scores):
        expected = scores(points, labels, **options)
        assert 0 < expected['mAP'] < 1
        assert scores(points * power, labels, **options) == expected


@pytest.mark.parametrize('distance', FLAT)
def test_norms_that_differ_by_many_powers_of_ten(distance):
    points, labels = clusters(120, 6, 10, 2.0)
    # Beside a row of norm 1e25 all those of norm 1e-25 are at one distance, in fp64.
    powers = 4 if distance == 'euclidean' else 25
    norms = torch.logspace(-powers, powers, 120, dtype=torch.float64)[torch.randperm(120)][:, None]
    for dtype in (torch.float32, torch.float64):
        check((points * norms).to(dtype), labels, distance=distance, rows=50)
    huge = points.clone()
    huge[3] *= 1e12
    for dtype in (torch.float32, torch.float64):
        check(huge.to(dtype), labels, distance=distance)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_lattices_tie_as_arithmetic_says(data):
    seed, dim = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.integers(1, 4))
    highest, rows = data.draw(st.sampled_from([1, 2, 20])), data.draw(st.integers(2, 40))
    random = np.random.default_rng(seed)
    points = torch.from_numpy(random.integers(-highest, highest + 1, (rows, dim)))
    points = points.to(data.draw(st.sampled_from([torch.float32, torch.float64])))
    labels = random.integers(0, 4, rows)
    # Long doubles round quotients: two that differ at all do so by more than 1e-12.
    distance = data.draw(st.sampled_from(list(FLAT)))
    check(points, labels, distance=distance, rows=data.draw(st.sampled_from([1, 17, 1024])), digits=12)


# ---- figures that a tolerance would decide ---------------------------------------------------------------------------


@pytest.mark.parametrize('scores', [retrieval_scores, sharded_retrieval_scores])
def test_near_rows_are_no_ties(scores):
    near = torch.tensor([[1e-4], [1e-3], [1.0], [-1.0]], dtype=torch.float64)
    options = dict(distance='euclidean', metrics=('Recall@1',))
    assert scores(torch.zeros(1, 1, dtype=torch.float64), [1], near, [1, 0, 0, 0], **options) == {'Recall@1': 1.0}
    angle = torch.tensor([0.0, 1e-4, 1.3e-3, 1.0], dtype=torch.float64)
    unit = torch.stack([angle.cos(), angle.sin()], 1)
    assert scores(unit[:1], [1], unit[1:], [1, 0, 0], metrics=('Recall@1',)) == {'Recall@1': 1.0}


@pytest.mark.parametrize('sigma', [0.002, 0.01])
def test_tight_clusters_with_wrong_labels(sigma):
    random = np.random.default_rng(0)
    labels = random.integers(0, 30, 1000)
    points = random.normal(size=(30, 128))[labels] + sigma * random.normal(size=(1000, 128))
    points = torch.nn.functional.normalize(torch.from_numpy(points)).float()
    labels = np.where(random.random(1000) < 0.05, random.integers(0, 30, 1000), labels)
    found = retrieval_scores(points, labels, metrics=('Recall@1',))['Recall@1']
    scores = reference_scores(points, points, 'cosine')
    np.fill_diagonal(scores, -np.inf)
    assert found == (labels[scores.argmax(1)] == labels).mean()
    assert 0.85 < found < 0.95


def test_clusters_on_a_common_vector():
    points, labels = clusters(200, 10, 512, 0.1)
    base = np.random.default_rng(1).normal(size=512)
    assert retrieval_scores(torch.from_numpy(base) + 1e-4 * points, labels, metrics=('Recall@1',)) == {'Recall@1': 1.0}


@pytest.mark.parametrize('distance', ['dot', 'euclidean'])
def test_tiny_embeddings_have_figures(distance):
    points, labels = clusters(300, 30, 16, 2.0)
    expected = retrieval_scores(points.float(), labels, distance=distance)
    found = retrieval_scores((points * 2.0**-83).float(), labels, distance=distance)
    assert found == expected and expected['Recall@1'] > 0.05


@pytest.mark.parametrize('size', [3e19, 1e38])
@pytest.mark.parametrize('distance', FLAT)
def test_huge_embeddings_overflow_nowhere(size, distance):
    points = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.1, 1.0], [0.0, 0.9]]) * size
    assert retrieval_scores(points, [0, 0, 1, 1], distance=distance, metrics=('RP',)) == {'RP': 1.0}


@pytest.mark.parametrize('scores', [retrieval_scores, sharded_retrieval_scores])
def test_the_log_says_what_ties_decide(scores, caplog):
    points, labels = clusters(50, 5, 8, 0.1)
    points[:5], labels[:5] = points[0], [0, 1, 2, 3, 4]
    with caplog.at_level(logging.WARNING, logger='mmdml'):
        found = scores(points, labels, metrics=('Recall@1',))
        best = scores(points, labels, metrics=('Recall@1',), ties='optimistic')
    gap = 100 * (best['Recall@1'] - found['Recall@1'])
    first, second = (record.getMessage() for record in caplog.records)
    assert gap >= 0.1 or found == best
    assert f'{gap:.2f} % of Recall@1: {100 * found["Recall@1"]:.2f} % with the pessimistic rule' in first
    assert f'{gap:.2f} % of Recall@1: {100 * best["Recall@1"]:.2f} % with the optimistic rule' in second
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger='mmdml'):
        scores(points[5:], labels[5:], metrics=('Recall@1',))
    assert not caplog.records


@pytest.mark.parametrize('sizes', [[80] * 4, [100] + [5] * 40, [1] * 20 + [150]], ids=['large', 'one large', 'lonely'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_large_classes_beside_small_ones(sizes, dtype):
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    points = random.normal(size=(len(sizes), 9))[labels] + 4 * random.normal(size=(len(labels), 9))
    # Every eighth row is there twice.
    points[: 8 * (len(points) // 8) : 8] = points[1 : 8 * (len(points) // 8) : 8]
    check(torch.from_numpy(points).to(dtype), labels, rows=64)
