"""Options of RetrievalMetric: each reaches what it names, and a wrong one is refused when the metric is built."""

import numpy as np
import pytest
import torch

from mmdml.evaluation import RetrievalMetric, retrieval_scores
from mmdml.evaluation.functional.clustering import clustering_scores
from mmdml.functional.query_expansion import alpha_query_expansion
from mmdml.functional.reranking import KReciprocalEncoding
from mmdml.functional.whitening import PCAWhitening

ROWS = 40
SHALLOW = dict(recall_at=(1, 2), metrics=('Recall@K', 'MAP@R'))


def data(seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(ROWS) % 5
    x = torch.randn(5, 6, generator=generator)[labels] + 1.2 * torch.randn(ROWS, 6, generator=generator)
    # Norms that matter, and an offset that whitening takes out.
    return x * (1 + torch.rand(ROWS, 1, generator=generator)) + 0.5, labels


ROLES = torch.arange(ROWS) % 3
QUERY, GALLERY = (ROLES != 2).nonzero()[:, 0], (ROLES != 1).nonzero()[:, 0]


def evaluate(x, labels, roles=None, meta=None, fields=(), **options):
    metric = RetrievalMetric(**options)
    metric.dataset_meta = meta
    samples = [
        dict(embedding=x[i], gt_label=labels[i : i + 1], sample_idx=i, **(fields[i] if fields else {}))
        | ({} if roles is None else dict(role=int(roles[i])))
        for i in range(len(x))
    ]
    metric.process(None, samples)
    return metric.evaluate(len(x))


def percent(scores):
    return pytest.approx({f'retrieval/{name}': 100 * value for name, value in scores.items()})


# ---- protocol, parts, groups, options of the search ----


def test_a_protocol_overrules_roles_and_its_deviations_are_prefixed():
    x, labels = data()
    scores = evaluate(x, labels, ROLES, protocol=dict(type='LeaveOneOut'), **SHALLOW)
    assert scores == percent(retrieval_scores(x, labels, **SHALLOW))
    scores = evaluate(x, labels, protocol=dict(type='SingleGalleryShot', repeats=3), recall_at=(1,), metrics=['CMC@1'])
    assert list(scores) == ['retrieval/CMC@1', 'retrieval/CMC@1_std'] and 0 < scores['retrieval/CMC@1_std'] < 50


def test_parts_come_from_the_data_set():
    x, labels = data()
    meta = dict(num_images=ROWS, part_sizes=[15, 25])
    scores = evaluate(x, labels, meta=meta, protocol=dict(type='PerPart', names=('a', 'b')), **SHALLOW)
    expected = {f'a/{name}': value for name, value in retrieval_scores(x[:15], labels[:15], **SHALLOW).items()}
    expected |= {f'b/{name}': value for name, value in retrieval_scores(x[15:], labels[15:], **SHALLOW).items()}
    assert scores == percent(expected)
    assert evaluate(x, labels, meta=meta, **SHALLOW) == percent(retrieval_scores(x, labels, **SHALLOW))
    with pytest.raises(ValueError, match=r'have \[15, 24\] images, together not 40'):
        evaluate(x, labels, meta=dict(part_sizes=[15, 24]))


@pytest.mark.parametrize('roles', [None, ROLES], ids=['leave one out', 'roles'])
def test_groups_come_from_a_sample_field_and_make_junk(roles):
    x, labels = data()
    groups = torch.arange(ROWS) // 2 % 4
    fields = [dict(camera=int(group) if i % 2 else group.reshape(1)) for i, group in enumerate(groups)]
    if roles is None:
        expected = retrieval_scores(x, labels, query_groups=groups, **SHALLOW)
    else:
        sides = (x[QUERY], labels[QUERY], x[GALLERY], labels[GALLERY])
        keys = dict(query_ids=QUERY, gallery_ids=GALLERY, query_groups=groups[QUERY], gallery_groups=groups[GALLERY])
        expected = retrieval_scores(*sides, **keys, **SHALLOW)
    scores = evaluate(x, labels, roles, fields=fields, groups='camera', **SHALLOW)
    assert scores == percent(expected)
    assert scores != evaluate(x, labels, roles, fields=fields, **SHALLOW)


def test_groups_that_are_missing_or_no_keys_are_named():
    x, labels = data()
    with pytest.raises(KeyError, match="needs 'camera'"):
        evaluate(x, labels, groups='camera')
    with pytest.raises(TypeError, match="groups='camera' must name a field with integers or strings, got 1.5"):
        evaluate(x, labels, fields=[dict(camera=1.5)] * ROWS, groups='camera')
    with pytest.raises(TypeError, match="groups='camera' must name a field of integers or of strings"):
        evaluate(x, labels, fields=[dict(camera='c1'), dict(camera=1)] * (ROWS // 2), groups='camera')


def test_groups_may_be_strings():
    x, labels = data()
    numbers = [dict(camera=i % 3) for i in range(ROWS)]
    names = [dict(camera=f'c{i % 3}') for i in range(ROWS)]
    scores = evaluate(x, labels, fields=names, groups='camera', **SHALLOW)
    assert scores == evaluate(x, labels, fields=numbers, groups='camera', **SHALLOW)
    assert scores != evaluate(x, labels, **SHALLOW)


def test_ties_rule_and_queries_without_positive_are_options():
    x, labels = torch.ones(4, 2), torch.tensor([0, 0, 1, 2])
    first = dict(recall_at=(1,), metrics=('Recall@K',))
    assert evaluate(x, labels, **first)['retrieval/Recall@1'] == 0
    assert evaluate(x, labels, ties='optimistic', **first)['retrieval/Recall@1'] == 100
    assert evaluate(x, labels, ties='optimistic', no_positive='miss', **first)['retrieval/Recall@1'] == 50


def test_faiss_gives_the_same_figures():
    x, labels = data()
    assert evaluate(x, labels, backend='faiss', **SHALLOW) == pytest.approx(evaluate(x, labels, **SHALLOW))


# ---- clustering ----


def test_clustering_is_on_demand_and_of_all_images_of_a_search():
    x, labels = data()
    plain = evaluate(x, labels, **SHALLOW)
    settings = dict(metrics=('NMI', 'F1'), restarts=2, seed=3)
    expected = {f'retrieval/{name}': 100 * value for name, value in clustering_scores(x, labels, **settings).items()}
    assert evaluate(x, labels, clustering=settings, **SHALLOW) == pytest.approx(plain | expected)
    with_roles = evaluate(x, labels, ROLES, clustering=settings, **SHALLOW)
    assert {name: with_roles[name] for name in expected} == pytest.approx(expected)
    assert set(expected) == {'retrieval/NMI', 'retrieval/F1'} and not set(plain) & set(expected)


def test_draws_of_the_same_images_are_clustered_once_and_parts_each():
    x, labels = data()
    protocol = dict(type='SingleGalleryShot', repeats=3)
    scores = evaluate(x, labels, protocol=protocol, clustering=dict(metrics=['NMI']), **SHALLOW)
    assert scores['retrieval/NMI'] == pytest.approx(100 * clustering_scores(x, labels, metrics=['NMI'])['NMI'])
    assert 'retrieval/NMI_std' not in scores
    parts = dict(type='PerPart', protocol=protocol)
    meta = dict(part_sizes=[20, 20])
    scores = evaluate(x, labels, meta=meta, protocol=parts, clustering=dict(metrics=['NMI']), **SHALLOW)
    for part, rows in (('0', slice(20)), ('1', slice(20, 40))):
        expected = 100 * clustering_scores(x[rows], labels[rows], metrics=['NMI'])['NMI']
        assert scores[f'retrieval/{part}/NMI'] == pytest.approx(expected)


# ---- whitening and query expansion ----


def unit(x):
    return torch.nn.functional.normalize(x)


def between_roles(query, gallery, labels, **options):
    ids = dict(query_ids=QUERY, gallery_ids=GALLERY)
    return retrieval_scores(query, labels[QUERY], gallery, labels[GALLERY], **ids, **SHALLOW, **options)


def test_whitening_is_fitted_on_the_gallery_alone():
    x, labels = data()
    fitted = PCAWhitening.fit(unit(x[GALLERY]), dim=3)
    query, gallery = fitted.transform(unit(x[QUERY])), fitted.transform(unit(x[GALLERY]))
    scores = evaluate(x, labels, ROLES, whitening=dict(dim=3), **SHALLOW)
    assert scores == percent(between_roles(query, gallery, labels))
    assert scores != evaluate(x, labels, ROLES, **SHALLOW)


def test_whitening_is_fitted_on_all_images_if_they_search_each_other():
    x, labels = data()
    white = PCAWhitening.fit(unit(x), dim=3).transform(unit(x))
    assert evaluate(x, labels, whitening=dict(dim=3), **SHALLOW) == percent(retrieval_scores(white, labels, **SHALLOW))


def test_whitening_for_the_euclidean_distance_leaves_norms_alone():
    x, labels = data()
    white = PCAWhitening.fit(x).transform(x, normalize=False)
    options = dict(distance='euclidean', **SHALLOW)
    assert evaluate(x, labels, whitening={}, **options) == percent(retrieval_scores(white, labels, **options))


def test_whitening_may_be_fitted_on_saved_embeddings(tmp_path):
    x, labels = data()
    train, _ = data(seed=1)
    np.savez(tmp_path / 'train.npz', embeddings=train.numpy())
    white = PCAWhitening.fit(unit(train), dim=2).transform(unit(x))
    scores = evaluate(x, labels, whitening=dict(dim=2, fit=str(tmp_path / 'train.npz')), **SHALLOW)
    assert scores == percent(retrieval_scores(white, labels, **SHALLOW))
    assert scores != evaluate(x, labels, whitening=dict(dim=2), **SHALLOW)


def test_query_expansion_moves_queries_only_and_never_by_the_image_itself():
    x, labels = data()
    moved = alpha_query_expansion(x[QUERY], x[GALLERY], k=3, alpha=1.0, query_ids=QUERY, gallery_ids=GALLERY)
    scores = evaluate(x, labels, ROLES, query_expansion=dict(k=3, alpha=1.0), **SHALLOW)
    assert scores == percent(between_roles(moved, x[GALLERY], labels))
    assert scores != evaluate(x, labels, ROLES, **SHALLOW)


def test_query_expansion_moves_all_images_if_they_search_each_other():
    x, labels = data()
    moved = alpha_query_expansion(x, k=2, alpha=3.0)
    scores = evaluate(x, labels, query_expansion=dict(k=2), **SHALLOW)
    assert scores == percent(retrieval_scores(moved, labels, **SHALLOW))


# ---- re-ranking ----


def ranked_scores(distances, relevant, hidden):
    """Recall@1 and mAP from a whole matrix of distances, by sorting."""
    hits, precisions = [], []
    for row, good, gone in zip(distances, relevant, hidden, strict=True):
        order = [column for column in np.argsort(row, kind='stable') if not gone[column]]
        found = good[order]
        ranks = np.flatnonzero(found) + 1
        hits.append(found[0])
        precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
    return {'Recall@1': np.mean(hits), 'mAP': np.mean(precisions)}


@pytest.mark.parametrize('distance', ['cosine', 'euclidean'])
@pytest.mark.parametrize('roles', [None, ROLES], ids=['leave one out', 'roles'])
@pytest.mark.parametrize('block_size', [7, 1024])
def test_reranking_scores_equal_those_of_sorted_reranked_distances(distance, roles, block_size):
    x, labels = data()
    x = x.double()
    query, gallery = (torch.arange(ROWS),) * 2 if roles is None else (QUERY, GALLERY)
    settings = dict(k1=6, k2=3, weight=0.4)
    encoding = KReciprocalEncoding(x[query], None if roles is None else x[gallery], distance=distance, **settings)
    hidden = (query[:, None] == gallery).numpy()
    relevant = (labels[query][:, None] == labels[gallery]).numpy() & ~hidden
    expected = ranked_scores(encoding.distances(0, len(query)).numpy(), relevant, hidden)
    options = dict(recall_at=(1,), metrics=('Recall@K', 'mAP'), distance=distance, block_size=block_size)
    if roles is None:
        plain = retrieval_scores(x, labels, **options)
        scores = retrieval_scores(x, labels, reranking=settings, **options)
    else:
        sides = (x[query], labels[query], x[gallery], labels[gallery])
        plain = retrieval_scores(*sides, query_ids=query, gallery_ids=gallery, **options)
        scores = retrieval_scores(*sides, query_ids=query, gallery_ids=gallery, reranking=settings, **options)
    assert scores == pytest.approx(expected)
    assert abs(scores['mAP'] - plain['mAP']) > 1e-3


def test_reranking_reaches_the_search_after_whitening_and_expansion():
    x, labels = data()
    white = PCAWhitening.fit(unit(x[GALLERY]), dim=4)
    query, gallery = white.transform(unit(x[QUERY])), white.transform(unit(x[GALLERY]))
    query = alpha_query_expansion(query, gallery, k=2, query_ids=QUERY, gallery_ids=GALLERY)
    expected = between_roles(query, gallery, labels, reranking=dict(k1=5, k2=2))
    options = dict(whitening=dict(dim=4), query_expansion=dict(k=2), reranking=dict(k1=5, k2=2))
    assert evaluate(x, labels, ROLES, **options, **SHALLOW) == percent(expected)


# ---- wrong options ----


@pytest.mark.parametrize(
    'options, error, words',
    [
        (dict(metrics=('Recall',)), ValueError, r"unknown metrics \['Recall'\]"),
        (dict(distance='manhattan'), ValueError, "unknown distance 'manhattan'"),
        (dict(ties='fair'), ValueError, "unknown ties 'fair'"),
        (dict(no_positive='drop'), ValueError, "unknown no_positive 'drop'"),
        (dict(backend='annoy'), ValueError, "unknown backend 'annoy'"),
        (dict(backend='faiss', metrics=('mAP',)), ValueError, "use backend='torch'"),
        (dict(block_size=0), ValueError, 'block_size'),
        (dict(clustering=dict(metrics=('ARIE',))), ValueError, 'ARI'),
        (dict(clustering=dict(restart=2)), TypeError, 'restart'),
        (dict(whitening=dict(dim=0)), ValueError, 'dim must be an integer of at least 1, got 0'),
        (dict(whitening=dict(eps=2)), ValueError, 'eps must be in'),
        (dict(whitening=dict(fit='nothing.npz')), FileNotFoundError, 'nothing.npz'),
        (dict(whitening=dict(fit='query')), ValueError, 'query is of an unknown kind'),
        (dict(query_expansion=dict(k=0)), ValueError, 'k must be'),
        (dict(query_expansion={}, distance='dot'), ValueError, "made for distance='cosine', got 'dot'"),
        (dict(reranking=dict(weight=2)), ValueError, 'weight'),
        (dict(reranking=dict(k3=2)), TypeError, 'k3'),
        (dict(reranking={}, distance='dot'), ValueError, "re-ranking needs one of .* got 'dot'"),
        (dict(reranking={}, backend='faiss'), ValueError, "re-ranking needs backend='torch'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else '',
)
def test_a_wrong_option_is_refused_when_the_metric_is_built(options, error, words):
    with pytest.raises(error, match=words):
        RetrievalMetric(**options)
