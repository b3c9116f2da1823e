"""Every measure against numpy that sorts whole rows, and the rules on ties, junk and unanswered queries."""

import logging
import math
from contextlib import contextmanager
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from torch.utils._python_dispatch import TorchDispatchMode

from mmdml.evaluation.functional import (
    LogProgress,
    matrix_search,
    ranks,
    retrieval_scores,
    sharded_retrieval_scores,
    windows,
)

ALL = ('Recall@K', 'MAP@R', 'RP', 'mAP', 'MRR', 'mAP@1', 'mAP@3', 'CMC@1', 'CMC@2', 'Precision@1', 'Precision@5')
SHALLOW = tuple(name for name in ALL if name not in ('mAP', 'MRR'))
RECALL_AT = (1, 2, 4)


def relevance_lists(similarity, relevant, counts, ties):
    """For each query the list of hits (True, False) in ranked order: a full sort, then ties are put in order."""
    lists = []
    for row, hits, counted in zip(similarity, relevant, counts, strict=True):
        first = hits if ties == 'optimistic' else ~hits
        columns = [g for g in range(len(row)) if counted[g]]
        # Rounding: scores that should be equal are made equal.
        key = np.round(row, 12)
        lists.append([bool(hits[g]) for g in sorted(columns, key=lambda g: (-key[g], not first[g]))])
    return lists


def reference_values(hits):
    """The textbook sums over a ranked list."""
    total = sum(hits)
    precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]

    def summed(depth):
        return sum(p for p, hit in zip(precision[:depth], hits[:depth], strict=True) if hit)

    values = {f'Recall@{k}': float(any(hits[:k])) for k in RECALL_AT}
    values |= {f'CMC@{k}': float(any(hits[:k])) for k in (1, 2)}
    values |= {f'Precision@{k}': sum(hits[:k]) / k for k in (1, 5)}
    if total == 0:
        return dict.fromkeys([*values, 'MAP@R', 'RP', 'mAP', 'MRR', 'mAP@1', 'mAP@3'], 0.0)
    values |= {f'mAP@{k}': summed(k) / min(total, k) for k in (1, 3)}
    values |= {'MAP@R': summed(total) / total, 'RP': sum(hits[:total]) / total, 'mAP': summed(len(hits)) / total}
    return values | {'MRR': 1 / (1 + hits.index(True))}


def reference(similarity, query_labels, gallery_labels, same, junk, ties='pessimistic', no_positive='skip'):
    relevant = (np.asarray(query_labels)[:, None] == np.asarray(gallery_labels)[None]) & ~same
    counts = ~same & ~(relevant & junk)
    lists = relevance_lists(similarity, relevant & ~junk, counts, ties)
    rows = [reference_values(hits) for hits in lists if no_positive == 'miss' or any(hits)]
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} if rows else None


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def clustered(rows=60, classes=9, dim=12, seed=0, noise=1.0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    centers = torch.randn(classes, dim, generator=generator)
    return centers[labels] + noise * torch.randn(rows, dim, generator=generator), labels


# Close scores are found by comparing rows with each window, or by sorting; rows are sorted one by one, or together.
COUNTING = {'compared': (1e9, 1), 'sorted': (0, 1), 'together': (0, 1000), 'chosen': (8, 128)}


@contextmanager
def counting(name):
    """Ranks are counted in one way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, '_SORT', COUNTING[name][0])
        patch.setattr(ranks, '_ROWS_AT_ONCE', COUNTING[name][1])
        yield


@pytest.mark.parametrize('backend', ['torch', 'faiss'])
@pytest.mark.parametrize('ties', ranks.TIES)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_lattices_of_ties_with_junk_equal_the_reference(data, ties, backend):
    queries, rows = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 60))
    # Few points make long ties, and few rows of the query's own make the list short that faiss looks at.
    largest, classes, images = (data.draw(st.sampled_from(numbers)) for numbers in ((1, 0, 2), (20, 4), (200, 9)))

    def numbers(size, highest, lowest=0):
        # Seeded: drawn one by one, most would be the same.
        seed = data.draw(st.integers(0, 2**32 - 1))
        return np.random.default_rng(seed).integers(lowest, highest, size)

    points = numbers((queries + rows, 2), largest + 1, -largest)
    labels = numbers(queries + rows, classes)
    groups = numbers(queries + rows, 4)
    # Ids that repeat, and that hide rows of other labels too.
    ids = numbers(queries + rows, images)
    no_positive = data.draw(st.sampled_from(['skip', 'miss']))
    # One alone, because faiss looks only as deep as it must.
    metrics = ALL if backend == 'torch' else data.draw(st.sampled_from([SHALLOW, *([name] for name in SHALLOW)]))
    q, g = slice(0, queries), slice(queries, None)
    same, junk = ids[q, None] == ids[None, g], groups[q, None] == groups[None, g]
    similarity = unit(points[q]) @ unit(points[g]).T
    expected = reference(similarity, labels[q], labels[g], same, junk, ties, no_positive)
    options = dict(ties=ties, no_positive=no_positive, metrics=metrics, recall_at=RECALL_AT, backend=backend)
    keys = dict(query_ids=ids[q], gallery_ids=ids[g], query_groups=groups[q], gallery_groups=groups[g])
    call = (points[q], labels[q], points[g], labels[g])
    if expected is None:
        with pytest.raises(ValueError, match='has a positive'):
            retrieval_scores(*call, **keys, **options)
    else:
        with counting(data.draw(st.sampled_from(list(COUNTING)))):
            actual = retrieval_scores(*call, **keys, **options, block_size=data.draw(st.integers(1, 4)))
        assert actual == pytest.approx({key: expected[key] for key in actual}, abs=1e-9)
        assert len(actual) == len(metrics) + ('Recall@K' in metrics) * (len(RECALL_AT) - 1)


@pytest.mark.parametrize('way', COUNTING)
@pytest.mark.parametrize('noise', [0.5, 2.0, 50.0])
@pytest.mark.parametrize('metrics', [ALL, *([name] for name in ALL)], ids=lambda metrics: '+'.join(metrics))
def test_every_measure_alone_and_together_equals_the_reference(metrics, noise, way):
    """Alone, because what is asked for decides how deep ranks are known. Many chunks, and one that is not full."""
    x, labels = clustered(rows=8 * ranks.CHUNK + 5, classes=30, noise=noise)
    similarity, none = unit(x) @ unit(x).T, np.zeros((len(x), len(x)), bool)
    expected = reference(similarity, labels.numpy(), labels.numpy(), np.eye(len(x), dtype=bool), none)
    with counting(way):
        actual = retrieval_scores(x, labels, metrics=metrics, recall_at=RECALL_AT)
    assert actual == pytest.approx({key: expected[key] for key in actual}, abs=1e-9)


def test_measures_of_a_hand_made_list():
    # Ranked - + - + + : R = 3.
    angle = torch.deg2rad(torch.tensor([10.0, 20.0, 30.0, 40.0, 50.0]))
    gallery = torch.stack([angle.cos(), angle.sin()], 1)
    names = ('mAP', 'mAP@2', 'mAP@4', 'MRR', 'CMC@1', 'CMC@2', 'Precision@4', 'Precision@10', 'Recall@2')
    scores = retrieval_scores([[1.0, 0.0]], [0], gallery, [1, 0, 1, 0, 0], metrics=names)
    whole = (1 / 2 + 2 / 4 + 3 / 5) / 3
    expected = [whole, (1 / 2) / 2, (1 / 2 + 2 / 4) / 3, 1 / 2, 0, 1, 2 / 4, 3 / 10, 1]
    assert scores == pytest.approx(dict(zip(names, expected, strict=True)), abs=1e-12)
    assert list(scores) == list(names)


@pytest.mark.parametrize('ties, first', [('pessimistic', 0.0), ('optimistic', 1.0)])
def test_of_equal_embeddings_the_rule_decides(ties, first):
    scores = retrieval_scores(torch.ones(4, 3), [0, 0, 1, 1], ties=ties, metrics=['Recall@1', 'RP', 'mAP'])
    assert scores == pytest.approx({'Recall@1': first, 'RP': first, 'mAP': first or 1 / 3})


@pytest.mark.parametrize(
    'gap, pessimistic, optimistic', [(0, 0, 1), (1e-12, 1, 1), (-1e-12, 0, 0), (5e-7, 1, 1), (-5e-7, 0, 0)]
)
def test_only_equal_scores_tie(gap, pessimistic, optimistic):
    similarity = np.array([0.5 + gap, 0.5])
    gallery = np.stack([similarity, np.sqrt(1 - similarity**2)], 1)
    for ties, expected in (('pessimistic', pessimistic), ('optimistic', optimistic)):
        scores = retrieval_scores(np.array([[1.0, 0.0]]), [0], gallery, [0, 1], ties=ties, metrics=['CMC@1'])
        assert scores == {'CMC@1': expected}


@pytest.mark.parametrize('ties, mean', [('pessimistic', 1 / 30), ('optimistic', 1.0)])
def test_duplicates_tie_whatever_their_place_in_the_product(ties, mean):
    """Copies of one random vector: rounding of their products may differ from column to column."""
    row = torch.randn(1, 512, generator=torch.Generator().manual_seed(0))
    labels = [0, 0, *range(1, 30)]
    for distance in ('cosine', 'dot', 'euclidean'):
        for block_size in (1, 31):
            options = dict(distance=distance, block_size=block_size, ties=ties, metrics=['MRR'])
            assert retrieval_scores(row.repeat(31, 1), labels, **options)['MRR'] == pytest.approx(mean)


@pytest.mark.parametrize('metrics', [ALL, SHALLOW])
def test_blocks_and_order_change_no_measure(metrics):
    x, labels = clustered(100, 20, noise=2.0)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    expected = retrieval_scores(x, labels, metrics=metrics)
    assert retrieval_scores(x, labels, metrics=metrics, block_size=7) == expected
    assert retrieval_scores(x[order], labels[order], metrics=metrics) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('distance', ['cosine', 'dot', 'euclidean'])
def test_faiss_gives_the_same_figures(distance):
    x, labels = clustered(150, 25, noise=1.5)
    for sides in ((x, labels), (x[:40], labels[:40], x[40:], labels[40:])):
        options = dict(metrics=SHALLOW, distance=distance, recall_at=(1, 10, 1000))
        expected = retrieval_scores(*sides, **options)
        assert 0 < expected['MAP@R'] < 1
        assert retrieval_scores(*sides, **options, backend='faiss') == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('ties, first', [('pessimistic', 0.0), ('optimistic', 1.0)])
@pytest.mark.parametrize('place', [0, 20, 39])
def test_faiss_counts_ties_beyond_the_rows_it_found(ties, first, place):
    # 40 equal rows, of which one is a positive: faiss lists a few of them.
    labels = np.ones(40, np.int64)
    labels[place] = 0
    options = dict(metrics=['CMC@1'], ties=ties, backend='faiss')
    assert retrieval_scores(torch.ones(1, 3), [0], torch.ones(40, 3), labels, **options) == {'CMC@1': first}


class Products(TorchDispatchMode):
    """Counts matrix products, and remembers whether one was written into some columns of a tensor."""

    number, into_columns = 0, False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket is torch.ops.aten.mm:
            self.number += 1
        out = (kwargs or {}).get('out')
        self.into_columns |= out is not None and not out.is_contiguous()
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    'scores',
    [retrieval_scores, partial(retrieval_scores, reranking={}), sharded_retrieval_scores],
    ids=['plain', 're-ranked', 'sharded'],
)
def test_devices_that_cannot_write_into_columns_need_not(monkeypatch, scores):
    """MPS does not (pytorch#104832). Here the CPU is told that it cannot."""
    x, labels = clustered(50)
    expected = scores(x, labels, metrics=ALL)
    monkeypatch.setattr(matrix_search, 'NO_OUT_COLUMNS', ('cpu',))
    with Products() as products:
        assert scores(x, labels, metrics=ALL) == expected
    assert products.number > 0 and not products.into_columns


def test_junk_is_neither_a_hit_nor_a_miss():
    # Market-1501: the nearest image is of the same person in the same camera, the next a distractor there, then a hit.
    angle = torch.deg2rad(torch.tensor([5.0, 10.0, 20.0, 30.0]))
    gallery = torch.stack([angle.cos(), angle.sin()], 1)
    call = ([[1.0, 0.0]], ['anna'], gallery, ['anna', 'ben', 'anna', 'anna'])
    cameras = dict(query_groups=[1], gallery_groups=[1, 1, 2, 1])
    names = ['CMC@1', 'CMC@2', 'mAP', 'Precision@2']
    assert retrieval_scores(*call, **cameras, metrics=names) == {
        'CMC@1': 0, 'CMC@2': 1, 'mAP': 0.5, 'Precision@2': 0.5
    }  # fmt: skip
    assert retrieval_scores(*call, metrics=names)['CMC@1'] == 1


def test_groups_without_a_gallery_are_those_of_both_sides():
    x, labels = clustered(50, 6)
    cameras = torch.arange(50) % 3
    junk = cameras.numpy()[:, None] == cameras.numpy()[None]
    similarity = unit(x) @ unit(x).T
    expected = reference(similarity, labels.numpy(), labels.numpy(), np.eye(50, dtype=bool), junk)
    actual = retrieval_scores(x, labels, query_groups=cameras, metrics=ALL, recall_at=RECALL_AT)
    assert actual == pytest.approx(expected, abs=1e-9)
    # Cameras may have names.
    named = retrieval_scores(x, labels, query_groups=[f'c{c}' for c in cameras], metrics=ALL, recall_at=RECALL_AT)
    assert named == actual


def test_queries_without_a_positive_may_count_as_misses(caplog):
    x, labels = clustered(30, 4)
    labels = torch.cat([labels, torch.tensor([100, 101, 102])])
    x = torch.cat([x, torch.randn(3, 12, generator=torch.Generator().manual_seed(0))])
    skipped = retrieval_scores(x, labels, metrics=ALL)
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger='mmdml'):
        missed = retrieval_scores(x, labels, metrics=ALL, no_positive='miss')
    assert missed == pytest.approx({name: value * 30 / 33 for name, value in skipped.items()})
    assert [record.getMessage() for record in caplog.records] == [
        '3 of 33 queries have no positive in the gallery and count as misses '
        '(3 with no gallery row of their label but themselves)'
    ]


@pytest.mark.parametrize('metrics', [ALL, *([name] for name in ALL)], ids=lambda metrics: '+'.join(metrics))
def test_a_block_in_which_nobody_has_a_positive(metrics):
    x, labels = clustered(30, 4)
    gone = torch.arange(100, 110)
    lonely = torch.cat([gone, labels[10:]])
    expected = retrieval_scores(x[10:], labels[10:], x, lonely, metrics=metrics)
    with_lonely = (x, torch.cat([gone + 50, labels[10:]]), x, lonely)
    assert retrieval_scores(*with_lonely, metrics=metrics, block_size=5) == pytest.approx(expected)
    missed = retrieval_scores(x[:10], gone + 50, x, lonely, metrics=metrics, no_positive='miss')
    assert set(missed.values()) == {0.0}


# ---- the traps that anchors.md sec. 4.5 names C1 ---------------------------------------------------------------------


def test_trap_labels_above_2_to_the_24_do_not_collide():
    x, _ = clustered(40)
    labels = 2**24 + torch.arange(40) // 2
    base = retrieval_scores(x, labels - 2**24, metrics=ALL)
    assert retrieval_scores(x, labels, metrics=ALL) == base
    # In float32, 2^24 + 1 is 2^24: with colliding labels the first row would find the second.
    assert retrieval_scores(torch.eye(4), [2**24, 2**24 + 1, 2**24, 2**24 + 1], metrics=['RP']) == {'RP': 0}


@pytest.mark.parametrize('convert', [torch.float32, torch.float64, torch.bfloat16])
def test_trap_float_labels_are_refused(convert):
    with pytest.raises(TypeError, match='query_labels must be integers or strings'):
        retrieval_scores(torch.eye(2), torch.tensor([0, 0]).to(convert))


def test_trap_all_similarities_negative():
    query = torch.tensor([[1.0, 0.0]])
    gallery = torch.tensor([[-0.1, 1.0], [-0.5, 1.0], [-1.0, 1.0], [-1.0, 0.0]])
    scores = retrieval_scores(query, [0], gallery, [1, 0, 0, 1], metrics=['mAP', 'MRR', 'Precision@2'])
    assert scores == pytest.approx({'mAP': (1 / 2 + 2 / 3) / 2, 'MRR': 0.5, 'Precision@2': 0.5})


def test_trap_the_query_itself_is_not_its_nearest_row():
    # By inner product row 2 scores higher than row 0 with itself: dropping rank 1 would drop the only hit.
    x = torch.tensor([[1.0, 0.0], [0.5, 0.0], [9.0, 0.0]])
    assert retrieval_scores(x, [0, 1, 0], distance='dot', metrics=['MRR']) == {'MRR': 1.0}


def test_trap_duplicate_images_under_two_labels():
    # Rows 0 and 1 are one picture, labeled twice. It costs row 0 the first place and hides nothing.
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    scores = retrieval_scores(x, [0, 1, 0, 1], metrics=['CMC@1', 'CMC@2', 'CMC@3'])
    assert scores == pytest.approx({'CMC@1': 0.0, 'CMC@2': 0.5, 'CMC@3': 1.0})


def test_trap_a_label_that_no_gallery_row_has():
    x, labels = clustered(40, 3)
    present = retrieval_scores(x[:10], labels[:10], x[10:], labels[10:], metrics=ALL)
    absent = torch.cat([x[:10], x[:1]]), torch.cat([labels[:10], torch.tensor([77])])
    assert retrieval_scores(*absent, x[10:], labels[10:], metrics=ALL) == pytest.approx(present)


@pytest.mark.parametrize('backend', ['torch', 'faiss'])
def test_trap_one_class_gallery(backend):
    x, _ = clustered(70)
    metrics = SHALLOW if backend == 'faiss' else ALL
    scores = retrieval_scores(x, [5] * 70, metrics=metrics, backend=backend)
    assert set(scores.values()) == {1.0}


# ---- precision, memory, progress -------------------------------------------------------------------------------------


def test_agrees_with_pytorch_metric_learning_on_full_map_and_mrr():
    x, labels = clustered(120, 20, noise=2.0)
    x = torch.nn.functional.normalize(x)
    names = ('mean_average_precision', 'mean_reciprocal_rank')
    theirs = AccuracyCalculator(include=names, k=None, device=torch.device('cpu')).get_accuracy(x, labels)
    ours = retrieval_scores(x, labels, metrics=['mAP', 'MRR'])
    assert [ours['mAP'], ours['MRR']] == pytest.approx([theirs[name] for name in names], abs=1e-6)


def test_scores_of_float64_are_not_rounded_to_float32():
    # Two scores around 1e4 that differ by 3e-4: one value in fp32.
    gallery = np.array([[1e4 + 3e-4, 0], [1e4, 0], [0, 1], [0, 1], [0, 1]])
    labels = np.arange(5)
    query = np.array([[1.0, 0]])
    assert retrieval_scores(query, [0], gallery, labels, distance='dot', metrics=['CMC@1']) == {'CMC@1': 1.0}


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('ties', ranks.TIES)
def test_values_far_apart_in_a_block_do_not_disturb_each_other(ties, dtype):
    """Queries of norms 1e-6 to 1e6 and a gallery of norms 1 to 4 in one block, by inner product."""
    x, labels = clustered(80, 10, noise=2.0)
    gallery = x.to(dtype)
    query = gallery * 2.0 ** torch.linspace(-20, 20, 80, dtype=dtype).round()[:, None]
    options = dict(distance='dot', metrics=ALL, recall_at=RECALL_AT, ties=ties)
    none = np.zeros((80, 80), bool)
    expected = reference(x.double().numpy() @ x.double().numpy().T, labels.numpy(), labels.numpy(), none, none, ties)
    assert expected['mAP'] < 1
    assert retrieval_scores(query, labels, gallery, labels, **options) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('zeros', [(0.0, -0.0), (-0.0, 0.0)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_zeros_of_either_sign_are_equal(zeros, dtype):
    positive, negative = (torch.full((2, 1), zero, dtype=dtype) for zero in zeros)
    negatives = negative.expand(2, ranks.CHUNK).contiguous()
    reached, _ = ranks.count_reaching(
        negatives, negatives.amax(1, keepdim=True), torch.ones(2, 1, dtype=torch.bool), (positive, positive)
    )
    assert reached.tolist() == [[ranks.CHUNK]] * 2


def test_progress_is_reported_after_every_block():
    x, labels = clustered(50)
    seen = []
    retrieval_scores(x, labels, block_size=20, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(20, 50), (40, 50), (50, 50)]


def test_log_progress_tells_what_is_left(caplog, monkeypatch):
    clock = iter([0.0, 4.0, 10.0, 12.0, 20.0])
    monkeypatch.setattr('mmdml.utils.progress.time.monotonic', lambda: next(clock))
    progress = LogProgress(every=10)
    with caplog.at_level(logging.INFO, logger='mmdml'):
        for done in (40, 100, 120, 200):
            progress(done, 400)
    assert [record.getMessage() for record in caplog.records] == [
        '100 of 400 queries, 30 s left',
        '200 of 400 queries, 20 s left',
    ]


BAD = {
    'K in words': (dict(metrics=['mAP@K']), r"\['mAP@K'\].*'mAP', 'MRR', 'mINP', 'NDCG', 'Recall@5'.*with any K"),
    'K of 0': (dict(metrics=['CMC@0']), r"\['CMC@0'\]"),
    'K of R': (dict(metrics=['Precision@R']), r"\['Precision@R'\]"),
    'none': (dict(metrics=[]), 'unknown metrics'),
    'a string': (dict(metrics='mAP'), "single string 'mAP'"),
    'ties': (dict(ties='random'), r"unknown ties 'random'.*'pessimistic', 'optimistic'"),
    'no_positive': (dict(no_positive='nan'), r"unknown no_positive 'nan'.*'skip', 'miss'"),
    'backend': (dict(backend='annoy'), r"unknown backend 'annoy'.*'torch', 'faiss'"),
    'faiss and mAP': (dict(backend='faiss', metrics=['mAP', 'RP']), r"\['mAP'\] need.*backend='torch'"),
    'faiss and MRR': (dict(backend='faiss', metrics=['MRR']), r"\['MRR'\] need.*backend='torch'"),
    'groups alone': (dict(gallery_groups=[0, 0]), 'gallery_groups were given without a gallery'),
    'group count': (dict(query_groups=[0]), r'query_groups must have shape \(2,\)'),
    'labels beyond int64': (dict(query_labels=np.array([2**63, 0], np.uint64)), 'must fit int64'),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_options_are_named(case):
    options, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        retrieval_scores(**(dict(query=torch.eye(2, 3), query_labels=[0, 0]) | options))


def test_groups_of_one_side_are_refused():
    with pytest.raises(ValueError, match='must be given together'):
        retrieval_scores(torch.eye(2), [0, 1], torch.eye(2), [0, 1], query_groups=[0, 0])


def test_depths_of_all_measures_are_finite_but_for_two():
    from mmdml.evaluation.functional import parse_measures

    deep = [m.key for m in parse_measures(ALL, RECALL_AT) if math.inf in (m.nearest, m.every)]
    assert deep == ['mAP', 'MRR']
