"""RetrievalMetric: what it collects, over batches and ranks, and what it says of bad input."""

import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed
from mmengine.dist import get_rank
from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement
from ranks import run_ranks
from torch.utils._python_dispatch import TorchDispatchMode

from mmdml.evaluation import RetrievalMetric, RetrievalScoring, RowFacts, Split, retrieval_scores
from mmdml.evaluation.metrics import collector
from mmdml.functional.embedding_files import read_embeddings
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
            camera=i // 2 % 4,
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
    assert torch.equal(results.embeddings, x) and results.facts.labels.tolist() == labels.tolist()
    assert results.facts.paths.tolist() == [f'images/é{i}.png' for i in range(ROWS)]
    assert (results.facts.roles == 0).all()


def test_embeddings_are_written_with_the_labels_of_the_user_before_they_are_scored(tmp_path):
    x, _ = data()
    metric = RetrievalMetric(out=str(tmp_path / 'new/e.npz'), groups='camera')
    metric.dataset_meta = dict(classes=[str(44 + i) for i in range(ROWS)], part_sizes=[9, 14])
    metric.model_hash = 'abc'
    feed(metric, x, torch.arange(ROWS), range(ROWS))
    with pytest.raises(ValueError, match='none of the 23 queries has a positive'):
        metric.evaluate(ROWS)
    saved = read_embeddings(str(tmp_path / 'new/e.npz'))
    assert np.array_equal(saved.embeddings, x) and saved.model_hash == 'abc'
    assert saved.facts.labels.tolist() == [44 + i for i in range(ROWS)]
    assert saved.facts.paths.tolist() == [f'images/é{i}.png' for i in range(ROWS)]
    assert saved.facts.groups.tolist() == [i // 2 % 4 for i in range(ROWS)]
    assert saved.facts.parts.tolist() == [0] * 9 + [1] * 14


@pytest.mark.parametrize('names', [['01', '1'], ['a', 'b'], ['1_0', '10']])
def test_labels_that_are_no_plain_numbers_are_written_as_texts(tmp_path, names):
    x = torch.eye(4)
    metric = RetrievalMetric(out=str(tmp_path / 'e.npz'))
    metric.dataset_meta = dict(classes=names)
    scores = feed(metric, x, torch.tensor([0, 0, 1, 1]), range(4)).evaluate(4)
    assert scores['retrieval/Recall@8'] == 100
    assert np.load(tmp_path / 'e.npz')['labels'].tolist() == np.repeat(names, 2).tolist()


def test_images_without_a_label_are_collected_but_not_scored(tmp_path):
    x, labels = data()
    for unlabeled in (samples(x, -torch.ones(ROWS, dtype=torch.int64), range(ROWS)), samples(x, labels, range(ROWS))):
        for sample in unlabeled[1:]:
            if sample['gt_label'] >= 0:
                del sample['gt_label']
        metric = RetrievalMetric(out=str(tmp_path / 'e.npz'), score=False)
        metric.process(None, unlabeled)
        assert metric.evaluate(ROWS) == {}
        saved = np.load(tmp_path / 'e.npz')
        assert np.array_equal(saved['embeddings'], x) and len(saved['paths']) == ROWS
    with pytest.raises(ValueError, match='images without a label cannot be scored.*--no-scores'):
        RetrievalMetric().process(None, samples(x, -torch.ones(ROWS, dtype=torch.int64), range(ROWS)))


def test_an_image_that_is_there_twice_does_not_find_itself_and_has_one_label():
    """24 pictures with random vectors: their figures do not depend on how they are listed."""
    x, labels = torch.randn(24, 8, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 8
    once = feed(RetrievalMetric(), x, labels, range(24)).evaluate(24)
    assert once['retrieval/Recall@1'] < 50

    def twice(roles=None, other=labels):
        metric = RetrievalMetric()
        for start, own in ((0, labels), (24, other)):
            rows = samples(x, own, range(24))
            for i, row in enumerate(rows):
                row['sample_idx'] += start
                row['img_path'] = f'a{i}.png' if start else f'./b/../a{i}.png'
                row['role'] = 0 if roles is None else roles[start > 0]
            metric.process(None, rows)
        return metric.evaluate(48)

    assert twice((1, 2)) == pytest.approx(once)
    assert twice()['retrieval/Recall@1'] == pytest.approx(once['retrieval/Recall@1'])
    with pytest.raises(ValueError, match=r'\./b/\.\./a(\d+)\.png and a\1\.png are one image, but have the labels'):
        twice(other=(labels + 1) % 8)


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


def test_embeddings_of_another_width_are_refused():
    x, labels = data()
    metric = feed(RetrievalMetric(), x, labels, [0, 1])
    with pytest.raises(ValueError, match='4 dimensions came after others of 6'):
        feed(metric, x[:, :4], labels, [2])


def test_samples_without_the_role_that_their_data_set_has_are_refused():
    metric = RetrievalMetric()
    metric.dataset_meta = dict(num_images=2, has_roles=True)
    sample = dict(embedding=torch.ones(2), gt_label=torch.tensor([0]), sample_idx=0)
    with pytest.raises(KeyError, match="do not carry 'role'.*meta_keys"):
        metric.process({}, [sample])


# ---- several ranks ----


def as_sampled(rank):
    """Every second row, and on rank 1 what the sampler adds to make both parts equal."""
    return [*range(rank, ROWS, 2), *([0] * rank)]


def all_on_rank(holder):
    return lambda rank: range(ROWS) if rank == holder else []


class ByRank:
    """A protocol that gives every rank another search."""

    def __call__(self, facts):
        yield Split(np.arange(len(facts) - 6 * get_rank()))


class Case(NamedTuple):
    """An evaluation of two ranks, which ends as that of one process does."""

    options: dict[str, Any]
    roles: torch.Tensor | None = None
    rows: Callable[[int], Iterable[int]] = as_sampled

    def fed(self, rows):
        metric = RetrievalMetric(**self.options)
        metric.dataset_meta = dict(num_images=ROWS, part_sizes=[9, 14])
        return feed(metric, *data(), rows, self.roles)

    def alone(self):
        return self.fed(range(ROWS)).evaluate(ROWS)


def cases(folder):
    """Evaluations that every rank does with its rows, and some for which rank 0 needs all of them."""
    roles = torch.arange(ROWS) % 3
    everything = dict(metrics=('Recall@K', 'MAP@R', 'RP', 'mAP', 'MRR', 'Precision@3'), recall_at=(1, 3), block_size=4)
    on_shards = {
        'leave one out': Case(everything),
        'euclidean': Case(dict(distance='euclidean', ties='optimistic', **everything)),
        'query and gallery': Case(everything, torch.arange(ROWS) % 2 + 1),
        'some are both': Case(everything, roles),
        'groups': Case(dict(groups='camera', no_positive='miss', **everything), roles),
        'single gallery shot': Case(dict(protocol=dict(type='SingleGalleryShot', repeats=3), **everything)),
        'parts': Case(dict(protocol=dict(type='PerPart'))),
        'a protocol that differs between ranks': Case(dict(protocol=ByRank())),
        'whitening from a file, rank 0 has nothing': Case(
            dict(whitening=dict(fit=f'{folder}/train.npz', dim=3)), rows=all_on_rank(1)
        ),
        'rank 1 has nothing': Case({}, roles, all_on_rank(0)),
    }
    at_one_place = {
        'clustering': Case(dict(clustering=dict(metrics=('NMI',)))),
        'reranking': Case(dict(reranking=dict(k1=4, k2=2)), roles),
        'reranking, rank 0 has nothing': Case(dict(reranking=dict(k1=4, k2=2)), rows=all_on_rank(1)),
        'query expansion': Case(dict(query_expansion=dict(k=2))),
        'whitening from the gallery': Case(dict(whitening=dict(dim=3))),
        'faiss': Case(dict(backend='faiss')),
    }
    return on_shards, at_one_place


ON_SHARDS, AT_ONE_PLACE = (list(group) for group in cases(''))


def none_is_held():
    return RetrievalMetric().results_matrix()


def wrong(options=None, spoil=None, rows=as_sampled, size=ROWS, labels=None, part_sizes=(9, 14)):
    """A call on a rank that must fail; ``spoil`` makes of the rank's embeddings others."""

    def call():
        x, right = data()
        metric = RetrievalMetric(**(options or {}))
        metric.dataset_meta = dict(part_sizes=part_sizes)
        feed(metric, x if spoil is None else spoil(x), right if labels is None else labels, rows(get_rank()))
        metric.evaluate(size)

    return call


def not_finite(x):
    x[5, 2], x[8, 0] = torch.nan, torch.inf
    return x


def bad_cases():
    """Calls that fail on both ranks with the same words: name -> call, error, words."""
    different = torch.arange(ROWS)
    return {
        'missing': (
            wrong(rows=lambda rank: range(rank, ROWS - 1, 2)),
            ValueError,
            r'1 of 23 images have no embedding; the first are \[22\]',
        ),
        'no rows at all': (wrong(rows=lambda rank: []), ValueError, '23 of 23 images have no embedding'),
        'beyond': (wrong(size=22), ValueError, 'sample_idx 22 lies outside the data set of 22 images'),
        'not finite': (
            wrong(spoil=not_finite),
            ValueError,
            r'2 of 23 images are not finite.*: 5 \(images/é5.png\), 8 \(images/é8.png\)$',
        ),
        'widths': (wrong(spoil=lambda x: x[:, : 6 - get_rank()]), ValueError, "got {'rank 0': 6, 'rank 1': 5}"),
        'sizes of the parts': (wrong(part_sizes=(9, 13)), ValueError, r'have \[9, 13\] images, together not 23'),
        'protocol': (wrong(dict(protocol=dict(type='QueryGallery'))), ValueError, 'QueryGallery needs roles'),
        'no positives': (wrong(labels=different), ValueError, 'none of the 23 queries has a positive'),
        'no positives, on rank 0': (
            wrong(dict(query_expansion=dict(k=2)), labels=different),
            ValueError,
            'none of the 23 queries has a positive',
        ),
        'no results': (none_is_held, RuntimeError, 'call evaluate'),
    }


class LargestTensor(TorchDispatchMode):
    """Remembers the most entries of any tensor of fractions that an operation returned."""

    entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                self.entries = max(self.entries, tensor.numel())
        return result


def wide(rows):
    """A metric with some rows of 128 x 64."""
    metric = RetrievalMetric(block_size=8)
    metric.dataset_meta = dict(num_images=128)
    generator = torch.Generator().manual_seed(0)
    return feed(metric, torch.randn(128, 64, generator=generator), torch.arange(128) % 5, rows)


def on_a_rank(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    collector._ROWS_PER_MESSAGE = 5  # several messages, the last one shorter
    found = {}
    on_shards, at_one_place = cases(folder)
    for name, case in (on_shards | at_one_place).items():
        metric = case.fed(case.rows(rank))
        scores, held = metric.evaluate(ROWS), len(metric._rows.index)
        found[name] = scores, held, metric.results_matrix(), metric.results_matrix()
    for name, (call, _, _) in bad_cases().items():
        try:
            call()
        except Exception as error:
            found[name] = type(error).__name__, str(error)

    metric = Case({}).fed(as_sampled(rank))
    x, labels = data()
    if rank == 1:
        feed(metric, x + 100, labels, [0, 2])  # rank 0 has both
    found['twice'] = metric.evaluate(ROWS)

    metric = wide(range(rank, 128, 2))
    found['capacity'] = tuple(metric._collector.embeddings.shape)
    with LargestTensor() as largest:
        found['wide'] = metric.evaluate(128)
    found['entries'] = largest.entries
    torch.save(found, os.path.join(folder, f'{rank}.pth'))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    x, labels = data(1)
    np.savez(folder / 'train.npz', embeddings=x.numpy(), labels=labels.numpy())
    return str(folder)


@pytest.fixture(scope='module')
def two_ranks(folder):
    """What each of two gloo processes found, by name of the case."""
    run_ranks(on_a_rank, folder)
    return [torch.load(os.path.join(folder, f'{rank}.pth'), weights_only=False) for rank in range(2)]


def in_percent(scores):
    return pytest.approx(scores, abs=1e-9)


@pytest.mark.parametrize('name', [*ON_SHARDS, *AT_ONE_PLACE])
def test_two_ranks_get_the_scores_of_one_process(two_ranks, folder, name):
    on_shards, at_one_place = cases(folder)
    expected = (on_shards | at_one_place)[name].alone()
    first, second = (found[name][0] for found in two_ranks)
    assert first == second == in_percent(expected)
    assert list(first) == list(expected) and len(set(expected.values())) > 1


@pytest.mark.parametrize('name', ON_SHARDS)
def test_each_rank_keeps_its_own_rows(two_ranks, folder, name):
    rows = cases(folder)[0][name].rows
    own = [sum(rank == min(r for r in range(2) if i in rows(r)) for i in range(ROWS)) for rank in range(2)]
    assert [found[name][1] for found in two_ranks] == own and sum(own) == ROWS


@pytest.mark.parametrize('name', AT_ONE_PLACE)
def test_what_compares_rows_of_the_gallery_has_them_on_rank_0(two_ranks, name):
    assert [found[name][1] for found in two_ranks] == [ROWS, 0]


@pytest.mark.parametrize('name', [*ON_SHARDS, *AT_ONE_PLACE])
def test_rank_0_gets_the_results_matrix_in_data_set_order(two_ranks, folder, name):
    x, labels = data()
    on_shards, at_one_place = cases(folder)
    case = (on_shards | at_one_place)[name]
    (*_, results, again), (*_, nothing, _) = (found[name] for found in two_ranks)
    assert nothing is None and torch.equal(again.embeddings, x)
    assert torch.equal(results.embeddings, x) and results.facts.labels.tolist() == labels.tolist()
    assert results.facts.roles.tolist() == ([0] * ROWS if case.roles is None else case.roles.tolist())
    assert results.facts.paths.tolist() == [f'images/é{i}.png' for i in range(ROWS)]
    if 'groups' in case.options:
        assert results.facts.groups.tolist() == [i // 2 % 4 for i in range(ROWS)]
    else:
        assert results.facts.groups is None


def test_an_image_that_two_ranks_have_counts_as_the_lowest_has_it(two_ranks):
    first, second = (found['twice'] for found in two_ranks)
    assert first == second == in_percent(Case({}).alone())


def test_no_rank_makes_a_tensor_larger_than_its_part(two_ranks):
    expected = wide(range(128)).evaluate(128)
    for found in two_ranks:
        assert found['wide'] == in_percent(expected)
        assert found['capacity'] == (64, 64) and found['entries'] == 64 * 64


@pytest.mark.parametrize('name', bad_cases())
def test_both_ranks_raise_the_same_error(two_ranks, name):
    _, kind, words = bad_cases()[name]
    first, second = (found[name] for found in two_ranks)
    assert first == second and first[0] == kind.__name__
    with pytest.raises(kind, match=words):
        raise kind(first[1])


def test_scoring_refuses_shards_where_it_needs_all_rows():
    x, labels = data()
    scoring = RetrievalScoring(reranking={})
    with pytest.raises(ValueError, match='need all rows at one place'):
        scoring.on_shards(x, np.arange(ROWS), RowFacts.of(labels))
