"""retrieval_scores against an independent numpy reference, pytorch-metric-learning, and the known traps."""

import logging

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from mmdml.evaluation.functional import query_values as module
from mmdml.evaluation.functional import retrieval_scores, retrieval_values, sharded_retrieval_scores
from mmdml.functional.inputs import precision_on

RECALL_AT = (1, 2, 4, 8)


def reference_similarity(query, gallery, distance):
    query, gallery = np.asarray(query, np.float64), np.asarray(gallery, np.float64)
    if distance == 'cosine':
        query = query / np.maximum(np.linalg.norm(query, axis=1, keepdims=True), 1e-12)
        gallery = gallery / np.maximum(np.linalg.norm(gallery, axis=1, keepdims=True), 1e-12)
    if distance == 'euclidean':
        return -np.linalg.norm(query[:, None] - gallery[None], axis=2)
    return query @ gallery.T


def reference(query, query_labels, gallery=None, gallery_labels=None, distance='cosine', same=None):
    """Rank by rank, in float64, from the definitions; `same` (Q, G) marks the query itself."""
    if gallery is None:
        gallery, gallery_labels, same = query, query_labels, np.eye(len(query), dtype=bool)
    similarity = reference_similarity(query, gallery, distance)
    rows = []
    for i in range(len(query)):
        keep = [g for g in range(len(gallery)) if same is None or not same[i, g]]
        positives = sorted((similarity[i, g] for g in keep if gallery_labels[g] == query_labels[i]), reverse=True)
        negatives = [similarity[i, g] for g in keep if gallery_labels[g] != query_labels[i]]
        # A negative equal to a positive, or above it, comes first; the reference itself rounds in the 15th digit.
        ranks = [1 + n + sum(s >= p - 1e-12 for s in negatives) for n, p in enumerate(positives)]
        if not ranks:
            continue
        inside = [r for r in ranks if r <= len(ranks)]
        row = {f'Recall@{k}': float(ranks[0] <= k) for k in RECALL_AT}
        row['RP'] = len(inside) / len(ranks)
        row['MAP@R'] = sum((n + 1) / r for n, r in enumerate(inside)) / len(ranks)
        rows.append(row)
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} if rows else None


def clustered(rows=60, classes=9, dim=12, seed=0, noise=1.0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    centers = torch.randn(classes, dim, generator=generator)
    return centers[labels] + noise * torch.randn(rows, dim, generator=generator), labels


@pytest.mark.parametrize('distance', ['cosine', 'dot', 'euclidean'])
@pytest.mark.parametrize('seed', range(3))
def test_self_retrieval_equals_the_reference(distance, seed):
    x, labels = clustered(seed=seed, noise=2.0)
    expected = reference(x.numpy(), labels.numpy(), distance=distance)
    assert 0 < expected['MAP@R'] < 1
    assert retrieval_scores(x, labels, distance=distance) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('distance', ['cosine', 'dot', 'euclidean'])
def test_query_gallery_equals_the_reference(distance):
    x, labels = clustered(80, noise=2.0)
    part = (x[:30], labels[:30], x[30:], labels[30:])
    expected = reference(*(side.numpy() for side in part), distance=distance)
    assert retrieval_scores(*part, distance=distance) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_lattice_embeddings_full_of_ties_equal_the_reference(data):
    rows = data.draw(st.integers(2, 12))
    x = data.draw(arrays.arrays(np.int64, (rows, 2), elements=st.integers(-2, 2)))
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows)))
    distance = data.draw(st.sampled_from(['cosine', 'euclidean', 'dot']))
    block_size = data.draw(st.integers(1, 5))
    split = data.draw(st.integers(1, rows - 1))
    query, gallery = (x[:split], labels[:split]), (x[split:], labels[split:])
    for args in ((x, labels), (*query, *gallery)):
        expected = reference(*args, distance=distance)
        if expected is None:
            with pytest.raises(ValueError, match='has a positive'):
                retrieval_scores(*args, distance=distance)
        else:
            actual = retrieval_scores(*args, distance=distance, block_size=block_size)
            assert actual == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('own_gallery', [True, False])
def test_agrees_with_pytorch_metric_learning(own_gallery):
    x, labels = clustered(200, 25, noise=1.5)
    x = torch.nn.functional.normalize(x)
    # Every class on both sides: PML and we treat queries without a positive alike, but the count differs.
    sides = (x, labels) if own_gallery else (x[:60], labels[:60], x[60:], labels[60:])
    names = ('precision_at_1', 'mean_average_precision_at_r', 'r_precision')
    calculator = AccuracyCalculator(include=names, k='max_bin_count', device=torch.device('cpu'))
    theirs = calculator.get_accuracy(*sides)
    ours = retrieval_scores(*sides)
    assert [ours['Recall@1'], ours['MAP@R'], ours['RP']] == pytest.approx([theirs[name] for name in names], abs=1e-6)


@pytest.mark.parametrize('block_size', [1, 7, 60, 1000])
def test_block_size_changes_nothing(block_size):
    x, labels = clustered()
    expected = retrieval_scores(x, labels, block_size=13)
    assert retrieval_scores(x, labels, block_size=block_size) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('score', [retrieval_scores, sharded_retrieval_scores])
def test_queries_without_a_positive_are_told_apart_by_the_cause(score, caplog):
    x = torch.eye(20)
    # Each query has three rows of its label, all of its own camera.
    with pytest.raises(ValueError) as error:
        score(x, np.arange(20) % 5, query_groups=np.zeros(20, int))
    junk = 'none of the 20 queries has a positive in the gallery (20 with no gallery row of their label but junk'
    assert str(error.value).startswith(junk)
    with pytest.raises(ValueError, match=r'\(20 with no gallery row of their label but themselves\)'):
        score(x, np.arange(20))
    with pytest.raises(ValueError, match=r'\(20 with no gallery row of their label\)'):
        score(x, np.arange(20), x, np.arange(20) + 50)
    # One of each, and one that is answered.
    labels, cameras = [0, 0, 1, 2, 2], [0, 1, 0, 0, 0]
    query, gallery = ([*labels, 7], [*cameras, 0]), (labels, cameras)
    sides = (torch.eye(6), query[0], torch.eye(6)[:5], gallery[0])
    keys = dict(query_groups=query[1], gallery_groups=gallery[1], query_ids=range(6), gallery_ids=range(5))
    with caplog.at_level(logging.WARNING, logger='mmdml'):
        score(*sides, **keys)
    assert caplog.records[0].getMessage() == (
        '4 of 6 queries have no positive in the gallery and are left out (1 with no gallery row of their label, '
        '1 with no gallery row of their label but themselves, 2 with no gallery row of their label but junk (rows of '
        'their label and group))'
    )


def test_values_of_queries_and_classes_have_the_scores_as_their_means():
    x, labels = clustered()
    values = retrieval_values(x, labels, block_size=7)
    scores = retrieval_scores(x, labels)
    assert {name: float(value.mean()) for name, value in values.values.items()} == pytest.approx(scores)
    by_class = values.class_means(labels.numpy())
    for label, means in by_class.items():
        own = labels == label
        assert means['MAP@R'] == pytest.approx(float(values.values['MAP@R'][own].mean()))
    assert sorted(by_class) == sorted(set(labels.tolist()))


def test_blocks_shrink_for_a_large_gallery_without_changing_results(monkeypatch):
    x, labels = clustered()
    expected = retrieval_scores(x, labels)
    monkeypatch.setattr(module, 'MAX_BLOCK_ENTRIES', 130)
    assert retrieval_scores(x, labels) == pytest.approx(expected, abs=1e-12)


def test_order_of_the_data_changes_nothing():
    x, labels = clustered()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(4))
    expected = retrieval_scores(x, labels)
    assert retrieval_scores(x[order], labels[order]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('distance', ['cosine', 'dot', 'euclidean'])
@pytest.mark.parametrize('scale', [1e-4, 1e4])
def test_scaling_the_embeddings_changes_nothing(distance, scale):
    x, labels = clustered()
    expected = retrieval_scores(x, labels, distance=distance)
    assert retrieval_scores(scale * x, labels, distance=distance) == pytest.approx(expected, abs=1e-12)


# Powers of two: all products are those of the rows as they were, in other units.
FAR_APART = 2.0 ** torch.linspace(-100, 100, 60).round()[:, None]


def test_rows_of_any_norm_have_a_direction():
    x, labels = clustered()
    expected = retrieval_scores(x, labels)
    assert 0 < expected['MAP@R'] < 1
    assert retrieval_scores(x * FAR_APART, labels) == expected


def test_squares_of_norms_need_not_be_finite():
    x, labels = clustered(noise=2.0)
    expected = retrieval_scores(x, labels, x, labels, distance='dot', exclude_self=False)
    assert expected['MAP@R'] < 1
    scaled = (x * 2.0**-80, labels, x * 2.0**80, labels)
    assert retrieval_scores(*scaled, distance='dot', exclude_self=False) == expected


@pytest.mark.parametrize('ties', ['pessimistic', 'optimistic'])
@pytest.mark.parametrize('backend', ['torch', 'faiss'])
def test_by_inner_product_the_norm_of_a_query_changes_nothing(ties, backend):
    # A lattice: most scores tie, by more or less than rounding.
    random = torch.Generator().manual_seed(0)
    query, gallery = (torch.randint(-2, 3, (rows, 2), generator=random).float() for rows in (60, 40))
    labels = torch.randint(0, 5, (100,), generator=random)
    options = dict(distance='dot', ties=ties, backend=backend)
    expected = retrieval_scores(query, labels[:60], gallery, labels[60:], **options)
    assert 0 < expected['MAP@R'] < 1
    scaled = retrieval_scores(query * FAR_APART, labels[:60], gallery, labels[60:], **options)
    assert scaled == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('distance', ['dot', 'euclidean'])
def test_a_query_far_from_all_changes_no_others_figures(distance):
    x, labels = clustered(80, noise=2.0)
    sides = dict(gallery=x[30:], gallery_labels=labels[30:], distance=distance)
    expected = retrieval_scores(x[:30], labels[:30], **sides)
    assert 0 < expected['MAP@R'] < 1
    # Its label is nobody's, so that it is left out of the means.
    far = torch.cat([x[:30], 1e6 * x[:1]]), torch.cat([labels[:30], torch.tensor([99])])
    assert retrieval_scores(*far, **sides) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('size', [1e6, 1e12])
@pytest.mark.parametrize('distance', ['dot', 'euclidean'])
@pytest.mark.parametrize('positive', [False, True])
def test_one_far_gallery_row_changes_no_other_rank(distance, size, dtype, positive):
    # All entries are positive: the far row, on the other side, is the last of all by either distance.
    x, labels = clustered(80, noise=1.0)
    x = x.abs().to(dtype)
    gallery, gallery_labels = x[30:], labels[30:]
    plain = retrieval_scores(x[:30], labels[:30], gallery, gallery_labels, distance=distance, metrics=['MAP@R', 'MRR'])
    far = torch.cat([gallery, torch.full_like(x[:1], -size)])
    # Where it is one more positive, MAP@R and R change: MRR does not, though its rank is asked for, and P@5 does not.
    label = labels[:1] if positive else torch.tensor([99])
    metrics = ['mAP', 'MRR', 'Precision@5'] if positive else ['MAP@R', 'MRR']
    options = dict(distance=distance, metrics=metrics)
    found = retrieval_scores(x[:30], labels[:30], far, torch.cat([gallery_labels, label]), **options)
    assert found['MRR'] == pytest.approx(plain['MRR'], abs=1e-12) and plain['MRR'] < 1
    if not positive:
        assert found == pytest.approx(plain, abs=1e-12)


def test_euclidean_survives_a_large_common_offset():
    x, labels = clustered(noise=2.0)
    expected = reference(x.numpy(), labels.numpy(), distance='euclidean')
    shifted = x.double() + 1e6
    assert retrieval_scores(shifted, labels, distance='euclidean') == pytest.approx(expected, abs=1e-9)


def test_ties_put_negatives_first():
    # All four rows are equal: one positive ties with two negatives, and comes third.
    scores = retrieval_scores(torch.ones(4, 3), [0, 0, 1, 1])
    assert scores == {'Recall@1': 0, 'Recall@2': 0, 'Recall@4': 1, 'Recall@8': 1, 'MAP@R': 0, 'RP': 0}


@pytest.mark.parametrize('gap, first', [(-1e-12, 0.0), (0, 0.0), (1e-12, 1.0), (5e-7, 1.0), (3e-6, 1.0)])
def test_scores_tie_only_if_they_are_equal(gap, first):
    query = np.array([[1.0, 0.0]])
    similarity = np.array([0.5 + gap, 0.5])
    gallery = np.stack([similarity, np.sqrt(1 - similarity**2)], 1)
    assert retrieval_scores(query, [0], gallery, [0, 1], recall_at=(1,))['Recall@1'] == first


def test_self_is_excluded_by_identity_not_by_rank():
    # Row 1 duplicates row 0 with another label: the duplicate, not the query, is what rank would drop.
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]])
    scores = retrieval_scores(x, [0, 1, 0], recall_at=(1, 2))
    # Query 0: [1, 2]; query 2: rows 0 and 1 tie, the negative comes first; query 1 has no positive.
    assert scores['Recall@1'] == 0 and scores['Recall@2'] == 1 and scores['RP'] == 0


def test_dot_product_does_not_assume_that_self_comes_first():
    x = torch.tensor([[1.0, 0.0], [5.0, 0.0], [9.0, 0.1]])
    assert retrieval_scores(x, [0, 0, 1], distance='dot', recall_at=(1, 2))['Recall@2'] == 1
    assert retrieval_scores(x, [0, 0, 1], distance='dot', recall_at=(1,))['Recall@1'] == 0


def test_ids_exclude_the_same_image_from_a_gallery():
    x, labels = clustered(40)
    query, expected = torch.arange(0, 40, 3), None
    same = query.numpy()[:, None] == np.arange(40)[None]
    expected = reference(x[query].numpy(), labels[query].numpy(), x.numpy(), labels.numpy(), same=same)
    names = [f'image {i}' for i in range(40)]
    args = (x[query], labels[query], x, labels)
    ids = dict(query_ids=[names[i] for i in query], gallery_ids=names)
    assert retrieval_scores(*args, **ids) == pytest.approx(expected, abs=1e-9)
    assert retrieval_scores(*args, **ids, exclude_self=False)['Recall@1'] == 1
    assert retrieval_scores(*args)['Recall@1'] == 1


def test_rows_with_one_id_do_not_find_each_other():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    twins = retrieval_scores(x, [0, 0, 1, 0], query_ids=[7, 7, 8, 9], recall_at=(1, 2))
    assert twins['Recall@1'] == pytest.approx(0) and twins['Recall@2'] == 1


def test_queries_may_find_themselves_if_asked_to():
    x, labels = clustered()
    assert retrieval_scores(x, labels, exclude_self=False)['Recall@1'] == 1


def test_queries_without_a_positive_are_left_out_and_counted(caplog):
    x, labels = clustered(30, 4)
    alone = torch.cat([x, torch.randn(3, 12)]), torch.cat([labels, torch.tensor([100, 101, 102])])
    with caplog.at_level(logging.WARNING, logger='mmdml'):
        scores = retrieval_scores(*alone, block_size=8)
    expected = reference(alone[0].numpy(), alone[1].numpy())
    assert scores == pytest.approx(expected, abs=1e-9)
    assert [record.getMessage() for record in caplog.records] == [
        '3 of 33 queries have no positive in the gallery and are left out '
        '(3 with no gallery row of their label but themselves)'
    ]


@pytest.mark.parametrize(
    'base', [0, -5, 2**24, 2**53, 2**62, -(2**63)], ids=['0', '-5', '2^24', '2^53', '2^62', '-2^63']
)
def test_labels_may_be_any_int64(base):
    x, labels = clustered()
    assert retrieval_scores(x, labels + base) == retrieval_scores(x, labels)


@pytest.mark.parametrize(
    'convert',
    [
        lambda labels: labels.numpy(),
        lambda labels: labels.tolist(),
        lambda labels: labels.to(torch.int32),
        lambda labels: labels.numpy().astype(np.uint16),
        lambda labels: [f'class {label}' for label in labels.tolist()],
        lambda labels: np.array([f'c{label}' for label in labels.tolist()]),
        lambda labels: np.array([f'c{label}' for label in labels.tolist()], dtype=object),
        lambda labels: labels.flip(0).numpy()[::-1],
    ],
    ids=['numpy', 'list', 'int32', 'uint16', 'strings', 'numpy strings', 'objects', 'backwards'],
)
def test_labels_may_be_of_any_kind(convert):
    x, labels = clustered()
    assert retrieval_scores(x, convert(labels)) == retrieval_scores(x, labels)


def test_labels_are_mapped_once_for_both_sides():
    x, _ = clustered(6)
    scores = retrieval_scores(x[:2], ['b', 'c'], x[2:], ['a', 'b', 'c', 'c'], recall_at=(4,))
    expected = reference(x[:2].numpy(), [1, 2], x[2:].numpy(), [0, 1, 2, 2])
    assert scores['Recall@4'] == expected['Recall@4'] and scores['RP'] == pytest.approx(expected['RP'])


def test_negative_similarities_rank_like_any_other():
    query = torch.tensor([[1.0, 0.0]])
    gallery = torch.tensor([[-0.1, 1.0], [-0.9, 0.1], [-1.0, 0.0]])
    assert retrieval_scores(query, [0], gallery, [0, 1, 1], recall_at=(1,))['Recall@1'] == 1


def test_one_class_gallery_is_all_hits():
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    scores = retrieval_scores(x, torch.zeros(12, dtype=torch.int64))
    assert set(scores.values()) == {1.0} and len(scores) == 6


def test_k_beyond_the_gallery_counts_any_positive():
    x, labels = clustered(10, 2)
    assert retrieval_scores(x, labels, recall_at=(1000,))['Recall@1000'] == 1


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_scored_in_fp32(dtype):
    x, labels = clustered(rows=80, dim=64)
    rounded = x.to(dtype)
    expected = retrieval_scores(rounded.float(), labels)
    assert retrieval_scores(rounded, labels) == expected
    with torch.autocast('cpu', torch.bfloat16):
        assert retrieval_scores(rounded, labels) == expected


def test_numpy_and_torch_input_agree_and_are_left_alone():
    x, labels = clustered()
    array = x.numpy().copy()
    assert retrieval_scores(array, labels.numpy()) == retrieval_scores(x, labels)
    assert (array == x.numpy()).all()
    backwards = np.ascontiguousarray(array[::-1])[::-1]
    assert retrieval_scores(backwards, labels) == retrieval_scores(x, labels)


def test_double_precision_is_kept_but_where_the_device_has_none():
    cpu, mps = torch.device('cpu'), torch.device('mps')
    assert precision_on(cpu, torch.float64) == torch.float64
    assert precision_on(mps, torch.float64) == torch.float32
    assert precision_on(cpu, torch.bfloat16) == precision_on(mps, torch.float16) == torch.float32


@pytest.mark.parametrize('dtype', [np.int32, np.int64, np.uint32, np.uint64])
def test_whole_numbers_that_single_precision_does_not_hold_are_scored_as_they_are(dtype):
    rows, labels = np.array([[2**24 + 1], [2**24], [2**24 + 1], [2**24 + 3]]), [1, 0, 1, 0]
    options = dict(distance='euclidean', recall_at=[1], metrics=['Recall@K', 'mAP'])
    scores = retrieval_scores(rows.astype(dtype), labels, **options)
    assert scores == retrieval_scores(rows.astype(np.float64), labels, **options)
    assert scores == pytest.approx({'Recall@1': 1 / 2, 'mAP': 2 / 3})


def test_whole_numbers_that_single_precision_holds_stay_there():
    cpu = torch.device('cpu')
    assert {precision_on(cpu, kind) for kind in (torch.int8, torch.uint8, torch.int16, torch.uint16)} == {torch.float32}
    assert precision_on(torch.device('mps'), torch.int64) == torch.float32


def test_labels_in_bytes_are_read_as_texts():
    x, labels = clustered()
    names = [f'é{label}' for label in labels.tolist()]
    assert retrieval_scores(x, np.array([name.encode() for name in names])) == retrieval_scores(x, names)
    with pytest.raises(ValueError, match='query_labels are bytes, and not UTF-8'):
        retrieval_scores(x, np.array([name.encode('latin-1') for name in names]))


def test_masked_entries_are_refused():
    x, labels = clustered()
    hidden = np.arange(len(x)) == 3
    with pytest.raises(ValueError, match='query_labels have 1 masked entries'):
        retrieval_scores(x, np.ma.array(labels.numpy(), mask=hidden))
    with pytest.raises(ValueError, match='query have .* masked entries'):
        retrieval_scores(np.ma.array(x.numpy(), mask=np.repeat(hidden[:, None], x.shape[1], 1)), labels)
    assert retrieval_scores(x, np.ma.array(labels.numpy())) == retrieval_scores(x, labels)


def test_one_k_may_be_a_number_of_numpy():
    x, labels = clustered()
    assert retrieval_scores(x, labels, recall_at=np.int64(2)) == retrieval_scores(x, labels, recall_at=2)


@pytest.mark.parametrize('options', [dict(recall_at=[10**22]), dict(metrics=[f'Recall@{10**22}'])])
def test_a_rank_that_no_tensor_holds_is_named(options):
    x, labels = clustered()
    with pytest.raises(ValueError, match=f'{10**22}'):
        retrieval_scores(x, labels, **options)


@pytest.mark.parametrize('distance', ['cosine', 'dot', 'euclidean'])
def test_the_callers_embeddings_are_not_changed(distance):
    x, labels = clustered()
    before = x.clone()
    retrieval_scores(x, labels, distance=distance)
    assert torch.equal(x, before)


def test_only_the_metrics_asked_for_are_returned():
    x, labels = clustered()
    assert set(retrieval_scores(x, labels, metrics=['RP'])) == {'RP'}
    assert set(retrieval_scores(x, labels, metrics=['Recall@K'], recall_at=(3,))) == {'Recall@3'}


def test_perfect_and_hand_made_values():
    # Query 0 sees + - + -: R = 2, hit at rank 1 only within the top 2.
    query = torch.tensor([[1.0, 0.0]])
    angle = torch.deg2rad(torch.tensor([10.0, 20.0, 30.0, 40.0]))
    gallery = torch.stack([angle.cos(), angle.sin()], 1)
    scores = retrieval_scores(query, [0], gallery, [0, 1, 0, 1])
    assert scores['RP'] == 0.5 and scores['MAP@R'] == 0.5 and scores['Recall@1'] == 1
    scores = retrieval_scores(query, [0], gallery, [1, 0, 0, 0])
    # - + + | +: R = 3, precisions 1/2 and 2/3 at the hits.
    assert scores['RP'] == pytest.approx(2 / 3) and scores['MAP@R'] == pytest.approx((1 / 2 + 2 / 3) / 3)


def with_nan():
    x, labels = clustered(12)
    x[3, 1], x[7] = float('nan'), float('inf')
    return x, labels


BAD = {
    'empty gallery': ((torch.ones(2, 3), [0, 1], torch.ones(0, 3), []), {}, ValueError, 'the gallery is empty'),
    'nothing': ((torch.ones(0, 3), []), {}, ValueError, 'the gallery is empty'),
    'no queries': ((torch.ones(0, 3), [], torch.ones(2, 3), [0, 1]), {}, ValueError, 'no queries'),
    'not finite': (with_nan(), {}, ValueError, r'query embeddings are not finite.* 2 of 12 rows: 3, 7'),
    'vector': ((torch.ones(4), [0] * 4), {}, ValueError, r'must be a matrix \(N, D\), got shape \(4,\)'),
    'widths': ((torch.ones(2, 3), [0, 1], torch.ones(2, 4), [0, 1]), {}, ValueError, '3 dimensions, the gallery 4'),
    'label count': ((torch.ones(2, 3), [0, 1, 2]), {}, ValueError, r'query_labels must have shape \(2,\)'),
    'float labels': ((torch.ones(2, 3), [0.5, 1.0]), {}, TypeError, 'query_labels must be integers or strings'),
    'objects': ((torch.ones(2, 3), np.array(['a', 1], dtype=object)), {}, TypeError, 'integers or strings, got object'),
    'mixed labels': ((torch.ones(1, 3), ['0'], torch.ones(1, 3), [0]), {}, TypeError, 'nothing would match'),
    'no gallery labels': ((torch.ones(1, 3), [0], torch.ones(1, 3)), {}, ValueError, 'needs gallery_labels'),
    'labels alone': ((torch.ones(2, 3), [0, 0]), dict(gallery_labels=[0]), ValueError, 'without a gallery'),
    'no positives': ((torch.ones(2, 3), [0, 1]), {}, ValueError, 'none of the 2 queries has a positive'),
    'unknown metric': ((torch.ones(2, 3), [0, 0]), dict(metrics=['map']), ValueError, r"\['map'\].*'MAP@R', 'RP'"),
    'unknown distance': ((torch.ones(2, 3), [0, 0]), dict(distance='l1'), ValueError, "'l1'.*'cosine', 'dot'"),
    'K of 0': ((torch.ones(2, 3), [0, 0]), dict(recall_at=(0,)), ValueError, r'positive integers, got \(0,\)'),
    'no block': ((torch.ones(2, 3), [0, 0]), dict(block_size=0), ValueError, 'block_size must be at least 1'),
    'unknown self': (
        (torch.ones(1, 3), [0], torch.ones(1, 3), [0]),
        dict(exclude_self=True),
        ValueError,
        'exclude_self needs query_ids and gallery_ids',
    ),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_input_is_named(case):
    args, options, error, words = BAD[case]
    with pytest.raises(error, match=words):
        retrieval_scores(*args, **options)
