"""Protocols: who searches whom, and what the scores of several searches become."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from tiny import REPO

from mmdml.evaluation import RetrievalScoring, RowFacts, retrieval_scores
from mmdml.evaluation.protocols import LeaveOneOut, PerPart, QueryGallery, SingleGalleryShot, by_roles
from mmdml.registry import METRICS, PROTOCOLS

LABELS = np.array([7, 3, 7, 9, 3, 7, 9, 5, 3, 9])


def splits(protocol, *args, **known):
    found = list(protocol(RowFacts.of(*args, **known)))
    return [
        (split.query.tolist(), None if split.gallery is None else split.gallery.tolist(), split.prefix)
        for split in found
    ]


def draws(labels=LABELS, **settings):
    return splits(SingleGalleryShot(**settings), labels)


# ---- leave one out, query and gallery ----


@pytest.mark.parametrize('name', ['LeaveOneOut', 'AllVersusAll'])
def test_leave_one_out_goes_by_two_names_and_takes_all_rows_whatever_their_role(name):
    protocol = PROTOCOLS.build(dict(type=name))
    assert splits(protocol, [1, 1, 2], [0, 1, 2]) == [([0, 1, 2], None, '')]


def test_query_gallery_goes_by_roles_and_role_0_is_in_both():
    assert splits(QueryGallery(), [1, 1, 2, 2], [1, 2, 0, 2]) == [([0, 2], [1, 2, 3], '')]


@pytest.mark.parametrize(
    'roles, words',
    [([0, 0], 'every image is both'), ([1, 1], 'no gallery image'), ([2, 2], 'no query: no image has the role 1')],
)
def test_query_gallery_without_one_of_both_sides_is_an_error(roles, words):
    with pytest.raises(ValueError, match=words):
        splits(QueryGallery(), [1, 1], roles)


def test_by_default_roles_decide():
    assert splits(by_roles, [1, 1]) == splits(LeaveOneOut(), [1, 1])
    assert splits(by_roles, [1, 1], [1, 2]) == splits(QueryGallery(), [1, 1], [1, 2])


# ---- one gallery image per identity ----


@pytest.mark.parametrize('labels', [LABELS, LABELS.astype(str)], ids=['integers', 'strings'])
def test_every_draw_has_one_gallery_image_of_each_identity_and_all_others_are_queries(labels):
    found = draws(labels, repeats=4)
    assert len(found) == 4
    for query, gallery, prefix in found:
        assert sorted(LABELS[gallery]) == [3, 5, 7, 9] and prefix == ''
        assert sorted(query + gallery) == list(range(len(LABELS)))


def test_every_image_of_an_identity_is_drawn_equally_often():
    counts = np.zeros(len(LABELS))
    for _, gallery, _ in draws(repeats=600):
        counts[gallery] += 1
    assert counts[7] == 600  # alone of its identity
    # 200 expected, standard deviation 11.5.
    assert (np.abs(np.delete(counts, 7) - 200) < 60).all()


def test_draws_depend_on_the_seed_and_begin_the_same_whatever_their_number():
    assert draws(repeats=5, seed=1)[:3] == draws(repeats=3, seed=1)
    assert draws(repeats=5, seed=1) != draws(repeats=5, seed=2)
    galleries = [tuple(gallery) for _, gallery, _ in draws(repeats=5, seed=1)]
    assert len(set(galleries)) > 1


@pytest.mark.parametrize('settings', [dict(repeats=0), dict(repeats=1.5), dict(seed=-1)])
def test_settings_out_of_range_are_named(settings):
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f'{name} must be an integer.*got {value}'):
        SingleGalleryShot(**settings)


def test_what_leaves_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match='all 3 have one'):
        draws([1, 2, 3])
    with pytest.raises(ValueError, match='have roles that define it: use QueryGallery'):
        splits(SingleGalleryShot(), [1, 1], [1, 2])


def test_scores_are_mean_and_sample_deviation_over_draws():
    random = np.random.default_rng(0)
    x = random.normal(size=(4, 3))[np.searchsorted([3, 5, 7, 9], LABELS)] + random.normal(size=(len(LABELS), 3))
    scores = RetrievalScoring(dict(type='SingleGalleryShot', repeats=4), metrics=('Recall@K', 'MRR'), recall_at=(1,))(
        x, RowFacts.of(LABELS)
    )
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    ranks = []
    for query, gallery, _ in draws(repeats=4):
        similar = unit[query] @ unit[gallery].T
        own = similar[LABELS[query][:, None] == LABELS[gallery]]
        ranks.append((similar >= own[:, None]).sum(1))
    hits = [np.mean(rank == 1) for rank in ranks]
    reciprocal = [np.mean(1 / rank) for rank in ranks]
    assert np.std(hits) > 0
    expected = {
        'Recall@1': np.mean(hits),
        'MRR': np.mean(reciprocal),
        'Recall@1_std': np.std(hits, ddof=1),
        'MRR_std': np.std(reciprocal, ddof=1),
    }
    assert scores == pytest.approx(expected)
    assert list(scores) == list(expected)


def test_a_single_draw_has_no_deviation():
    x = np.random.default_rng(0).normal(size=(len(LABELS), 3))
    scores = RetrievalScoring(SingleGalleryShot(repeats=1), recall_at=(1,), metrics=('Recall@K',))(
        x, RowFacts.of(LABELS)
    )
    assert list(scores) == ['Recall@1']


# ---- parts ----


def test_parts_are_split_by_themselves_in_order_of_appearance():
    parts = ['b', 'a', 'b', 'a', 'b']
    assert splits(PerPart(), [1, 1, 1, 1, 2], parts=parts) == [([0, 2, 4], None, 'b/'), ([1, 3], None, 'a/')]


def test_each_part_has_its_own_protocol_and_name():
    protocol = PerPart([dict(type='QueryGallery'), dict(type='SingleGalleryShot', repeats=2)], names=('shop', 'cars'))
    found = splits(protocol, [1, 1, 2, 4, 4], [1, 2, 2, 0, 0], parts=[0, 0, 0, 1, 1])
    assert found[0] == ([0], [1, 2], 'shop/')
    assert [prefix for *_, prefix in found] == ['shop/', 'cars/', 'cars/']
    assert all(sorted(query + gallery) == [3, 4] for query, gallery, _ in found[1:])


@pytest.mark.parametrize(
    'protocol, parts, words',
    [
        (PerPart(), None, 'needs the part of each image'),
        (PerPart(names=('a',)), [0, 1], '1 names, but the test set has 2 parts'),
        (PerPart([None, None]), [0, 0], '2 protocols, but the test set has 1 parts'),
    ],
)
def test_parts_that_do_not_fit_are_named(protocol, parts, words):
    with pytest.raises(ValueError, match=words):
        splits(protocol, [1, 1], parts=parts)


def test_what_is_no_protocol_is_named():
    with pytest.raises(TypeError, match="got 'LeaveOneOut'"):
        PerPart('LeaveOneOut')
    with pytest.raises(KeyError, match='LeaveTwoOut'):
        RetrievalScoring(dict(type='LeaveTwoOut'))


def test_scores_of_parts_equal_those_of_each_part_alone():
    x, labels = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), np.tile([1, 2, 3], 4)
    scores = RetrievalScoring(PerPart(names=('small', 'large')))(x, RowFacts.of(labels, parts=[0] * 5 + [1] * 7))
    small, large = retrieval_scores(x[:5], labels[:5]), retrieval_scores(x[5:], labels[5:])
    expected = {f'small/{name}': value for name, value in small.items()}
    assert scores == expected | {f'large/{name}': value for name, value in large.items()}
    assert small != large


def test_a_protocol_without_any_search_is_an_error():
    with pytest.raises(ValueError, match='has no search'):
        RetrievalScoring(lambda facts: [])(torch.eye(2), RowFacts.of([1, 1]))


# ---- facts ----


@pytest.mark.parametrize(
    'known, words',
    [
        (dict(labels=[]), 'at least one entry'),
        (dict(labels=[[1], [2]]), r'got shape \(2, 1\)'),
        (dict(labels=[1, 2], ids=[1]), r'ids must have shape \(2,\).*got \(1,\)'),
        (dict(labels=[1, 2], groups=[1, 2, 3]), 'groups must have shape'),
        (dict(labels=[1, 2], roles=[0, 4]), r'got \[4\]'),
    ],
)
def test_facts_that_do_not_fit_are_named(known, words):
    with pytest.raises(ValueError, match=words):
        RowFacts.of(**known)


# ---- configs ----


def name_of(protocol):
    return getattr(protocol, '__name__', type(protocol).__name__)


@pytest.mark.parametrize('name', ['datasets/vehicleid', 'division/vehicleid'])
def test_vehicleid_is_scored_by_both_protocols_over_three_lists(name):
    cfg = Config.fromfile(f'{REPO}/configs/_base_/{name}.py')
    assert name_of(METRICS.build(cfg.val_evaluator).scoring.protocol) == 'SingleGalleryShot'
    metrics = [METRICS.build(evaluator) for evaluator in cfg.test_evaluator]
    assert [metric.prefix for metric in metrics] == ['retrieval', 'all_versus_all']
    protocols = [metric.scoring.protocol for metric in metrics]
    assert [name_of(part) for protocol in protocols for part in protocol.protocols] == [
        'SingleGalleryShot',
        'LeaveOneOut',
    ]
    parts = cfg.test_dataloader.dataset.datasets
    assert all(list(protocol.names) == [part.size for part in parts] for protocol in protocols)
    assert [part.size for part in parts] == ['small', 'medium', 'large']
    assert [part.pipeline for part in parts] == 3 * [cfg.val_dataloader.dataset.pipeline]


def test_queries_of_in_shop_search_the_gallery():
    cfg = Config.fromfile(f'{REPO}/configs/_base_/datasets/inshop.py')
    assert cfg.val_evaluator == cfg.test_evaluator
    assert name_of(METRICS.build(cfg.test_evaluator).scoring.protocol) == 'by_roles'
