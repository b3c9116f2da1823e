"""RetrievalMetric: what it collects, over batches and ranks, and what it says of bad input."""

import os

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement

from mmdml.evaluation import RetrievalMetric, retrieval_scores
from mmdml.registry import METRICS

ROWS = 23


def data(seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (ROWS,), generator=generator)
    x = torch.randn(4, 6, generator=generator)[labels] + torch.randn(ROWS, 6, generator=generator)
    return x, labels


def samples(x, labels, rows, roles=None):
    return [
        dict(
            embedding=x[i],
            gt_label=labels[i : i + 1],
            sample_idx=i,
            img_path=f'images/é{i}.png',
            **({} if roles is None else dict(role=int(roles[i]))),
        )
        for i in rows
    ]


def feed(metric, x, labels, rows, roles=None, batch=5):
    rows = list(rows)
    for start in range(0, len(rows), batch):
        metric.process(None, samples(x, labels, rows[start : start + batch], roles))
    return metric


def percent(scores):
    return {f'retrieval/{name}': 100 * value for name, value in scores.items()}


@pytest.mark.parametrize('meta', [None, dict(num_images=ROWS), dict(num_images=3)], ids=['none', 'exact', 'small'])
def test_equals_the_function_in_percent(meta):
    x, labels = data()
    metric = METRICS.build(dict(type='RetrievalMetric'))
    metric.dataset_meta = meta
    expected = percent(retrieval_scores(x, labels))
    assert feed(metric, x, labels, range(ROWS)).evaluate(ROWS) == pytest.approx(expected)
    assert list(expected)[0] == 'retrieval/Recall@1' and expected['retrieval/Recall@1'] > 1


def test_order_and_padding_duplicates_do_not_matter():
    x, labels = data()
    rows = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1)).tolist()
    scores = feed(RetrievalMetric(), x, labels, rows + rows[:4]).evaluate(ROWS)
    assert scores == pytest.approx(percent(retrieval_scores(x, labels)))


def test_options_reach_the_function():
    x, labels = data()
    options = dict(recall_at=(1, 3), metrics=('Recall@K', 'RP'), distance='euclidean', block_size=4)
    scores = feed(RetrievalMetric(prefix='test', **options), x, labels, range(ROWS)).evaluate(ROWS)
    expected = retrieval_scores(x, labels, **options)
    assert scores == pytest.approx({f'test/{name}': 100 * value for name, value in expected.items()})


def test_roles_make_queries_search_the_gallery():
    x, labels = data()
    roles = torch.arange(ROWS) % 2 + 1
    query, gallery = roles == 1, roles == 2
    expected = percent(retrieval_scores(x[query], labels[query], x[gallery], labels[gallery]))
    assert feed(RetrievalMetric(), x, labels, range(ROWS), roles).evaluate(ROWS) == pytest.approx(expected)


def test_role_0_among_roles_is_both_and_never_finds_itself():
    x, labels = data()
    roles = torch.arange(ROWS) % 3
    rows = torch.arange(ROWS)
    query, gallery = roles != 2, roles != 1
    expected = retrieval_scores(
        x[query], labels[query], x[gallery], labels[gallery], query_ids=rows[query], gallery_ids=rows[gallery]
    )
    naive = retrieval_scores(x[query], labels[query], x[gallery], labels[gallery])
    assert expected['Recall@1'] != naive['Recall@1']
    scores = feed(RetrievalMetric(), x, labels, range(ROWS), roles).evaluate(ROWS)
    assert scores == pytest.approx(percent(expected))


def test_results_matrix_holds_what_was_scored_in_data_set_order():
    x, labels = data()
    metric = feed(RetrievalMetric(), x, labels, reversed(range(ROWS)))
    metric.evaluate(ROWS)
    results = metric.results_matrix()
    assert torch.equal(results.embeddings, x) and torch.equal(results.labels, labels)
    assert results.paths == [f'images/é{i}.png' for i in range(ROWS)] and (results.roles == 0).all()


def test_a_second_evaluation_starts_afresh():
    metric = RetrievalMetric()
    for seed in (0, 1):
        x, labels = data(seed)
        scores = feed(metric, x, labels, range(ROWS)).evaluate(ROWS)
        assert scores == pytest.approx(percent(retrieval_scores(x, labels)))
    metric.process(None, samples(x, labels, [0]))
    with pytest.raises(RuntimeError, match='call evaluate'):
        metric.results_matrix()


def test_half_precision_embeddings_are_scored_in_fp32():
    x, labels = data()
    scores = feed(RetrievalMetric(), x.bfloat16(), labels, range(ROWS)).evaluate(ROWS)
    assert scores == pytest.approx(percent(retrieval_scores(x.bfloat16().float(), labels)))


def test_works_inside_the_mmengine_evaluator():
    x, labels = data()
    evaluator = Evaluator(RetrievalMetric())
    evaluator.dataset_meta = dict(num_images=ROWS)
    evaluator.process([BaseDataElement(**sample) for sample in samples(x, labels, range(ROWS))])
    assert evaluator.evaluate(ROWS) == pytest.approx(percent(retrieval_scores(x, labels)))


def test_images_that_were_never_seen_are_named():
    x, labels = data()
    metric = feed(RetrievalMetric(), x, labels, [i for i in range(ROWS) if i not in (2, 20)])
    with pytest.raises(ValueError, match=r'2 of 23 images have no embedding; the first are \[2, 20\]'):
        metric.evaluate(ROWS)


def test_evaluating_nothing_is_an_error():
    with pytest.raises(ValueError, match='5 of 5 images have no embedding'):
        RetrievalMetric().evaluate(5)


def test_index_beyond_the_data_set_is_named():
    x, labels = data()
    metric = feed(RetrievalMetric(), x, labels, range(ROWS))
    with pytest.raises(ValueError, match='sample_idx 22 lies outside the data set of 20 images'):
        metric.evaluate(20)


def test_embeddings_that_are_not_finite_are_named_by_path():
    x, labels = data()
    x[4, 2] = float('nan')
    with pytest.raises(ValueError, match=r'1 of 23 images are not finite.*4 \(images/é4.png\)'):
        feed(RetrievalMetric(), x, labels, range(ROWS)).evaluate(ROWS)


@pytest.mark.parametrize('name', ['embedding', 'gt_label', 'sample_idx'])
def test_missing_field_is_named(name):
    (sample,) = samples(*data(), [0])
    del sample[name]
    with pytest.raises(KeyError, match=name):
        RetrievalMetric().process(None, [sample])


@pytest.mark.parametrize('change, words', [(dict(sample_idx=-1), 'got -1'), (dict(role=3), r'got \[3\]')])
def test_bad_index_or_role_is_named(change, words):
    (sample,) = samples(*data(), [0])
    with pytest.raises(ValueError, match=words):
        RetrievalMetric().process(None, [{**sample, **change}])


def _rank(rank, folder):
    """One process of two: it holds every second row, and rank 1 a padding duplicate; writes what it got."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    x, labels = data()
    metric = feed(RetrievalMetric(), x, labels, [*range(rank, ROWS, 2), *([0] * rank)])
    scores = metric.evaluate(ROWS)
    matrix = metric.results_matrix() if rank == 0 else (None, None, None, None)
    feed(metric, x, labels, range(rank, ROWS - 1, 2))
    try:
        metric.evaluate(ROWS)
    except ValueError as error:
        message = str(error)
    torch.save((scores, matrix[0], matrix[3], message), os.path.join(folder, f'{rank}.pt'))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope='module')
def two_ranks(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp('ranks'))
    torch.multiprocessing.spawn(_rank, (folder,), nprocs=2)
    return [torch.load(os.path.join(folder, f'{rank}.pt')) for rank in range(2)]


def test_two_processes_equal_one(two_ranks):
    x, labels = data()
    (first, embeddings, paths, _), (second, *_) = two_ranks
    assert first == second == feed(RetrievalMetric(), x, labels, range(ROWS)).evaluate(ROWS)
    assert torch.equal(embeddings, x) and paths == [f'images/é{i}.png' for i in range(ROWS)]


def test_an_error_reaches_every_rank(two_ranks):
    (*_, first), (*_, second) = two_ranks
    assert first == second and '1 of 23 images have no embedding; the first are [22]' in first


def test_samples_without_the_role_that_their_data_set_has_are_refused():
    metric = RetrievalMetric()
    metric.dataset_meta = dict(num_images=2, has_roles=True)
    sample = dict(embedding=torch.ones(2), gt_label=torch.tensor([0]), sample_idx=0)
    with pytest.raises(KeyError, match="do not carry 'role'.*meta_keys"):
        metric.process({}, [sample])
