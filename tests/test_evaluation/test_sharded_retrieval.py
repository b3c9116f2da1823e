"""Scores of rows that are spread over gloo processes against those of one process that has them all."""

import logging
from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from torch.utils._python_dispatch import TorchDispatchMode

from mmdml.evaluation.functional import DISTANCES, retrieval_scores
from mmdml.evaluation.functional.sharded import sharded_retrieval_scores

ALL = ('Recall@K', 'MAP@R', 'RP', 'mAP', 'MRR', 'mAP@1', 'mAP@3', 'CMC@1', 'CMC@2', 'Precision@1', 'Precision@5')
KEYS = ('labels', 'ids', 'groups')
#: Distances of rows of any length.
FLAT = [name for name in DISTANCES if name != 'hyperbolic']


class Side:
    """Rows with their keys, and which rank holds which of them."""

    def __init__(self, rows, labels, owner, ids=None, groups=None):
        self.rows = rows
        self.keys = {name: value for name, value in zip(KEYS, (labels, ids, groups), strict=True) if value is not None}
        self.owner = np.asarray(owner)

    def of(self, *ranks):
        """Rows and keys of some ranks, one rank after another; who has none need not even know their width."""
        places = np.concatenate([np.flatnonzero(self.owner == rank) for rank in ranks])
        if len(places) == 0:
            return torch.empty(0, 0), {name: [] for name in self.keys}
        keys = {
            name: [value[place] for place in places] if isinstance(value, list) else value[places]
            for name, value in self.keys.items()
        }
        return self.rows[torch.from_numpy(places)], keys


class Case:
    """A call on every rank, and the same call in one process."""

    def __init__(self, query, gallery=None, world_size=2, **options):
        self.query, self.gallery, self.world_size, self.options = query, gallery, world_size, options

    def arguments(self, *ranks):
        rows, keys = self.query.of(*ranks)
        arguments = dict(query=rows, **{f'query_{name}': value for name, value in keys.items()})
        if self.gallery is not None:
            rows, keys = self.gallery.of(*ranks)
            arguments |= dict(gallery=rows, **{f'gallery_{name}': value for name, value in keys.items()})
        return arguments | dict(metrics=ALL) | self.options

    def alone(self):
        return retrieval_scores(**self.arguments(*range(self.world_size)))

    def on_rank(self, rank):
        return sharded_retrieval_scores(**self.arguments(rank))


def side(rows=50, classes=8, dim=6, seed=0, owner=None, **keys):
    """Clusters that overlap; by default two ranks hold unequal parts, with every class in both."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows)
    centers = np.random.default_rng(99).normal(size=(classes, dim))
    embeddings = torch.from_numpy(centers[labels] + random.normal(size=(rows, dim))).float()
    owner = (random.random(rows) < 0.3).astype(int) if owner is None else owner
    return Side(embeddings, torch.from_numpy(labels), owner, **keys)


def lattice(rows, seed, owner, **keys):
    """Few different points: nearly all scores tie, with rows of the other rank as well."""
    random = np.random.default_rng(seed)
    points = torch.from_numpy(random.integers(-2, 3, (rows, 2))).float()
    return Side(points, torch.from_numpy(random.integers(0, 4, rows)), owner, **keys)


def halves(rows):
    return np.arange(rows) * 2 // rows


def texts(prefix, values):
    return [f'{prefix} {int(value)} é' for value in values]


def scores_cases():
    random = np.random.default_rng(5)
    cases = {}
    for distance in FLAT:
        cases[f'self {distance}'] = Case(side(), distance=distance, block_size=7)
        cases[f'gallery {distance}'] = Case(side(20, seed=1), side(45, seed=2), distance=distance)
    ball = [side(seed=20), side(20, seed=21), side(45, seed=22)]
    for part in ball:
        part.rows /= 2 * part.rows.norm(dim=1).max()
    cases['self hyperbolic'] = Case(ball[0], distance='hyperbolic', block_size=7)
    cases['gallery hyperbolic'] = Case(*ball[1:], distance='hyperbolic')
    shifted = side(seed=3)
    shifted.rows += 300
    cases['a large common offset'] = Case(shifted, distance='euclidean')
    for ties in ('pessimistic', 'optimistic'):
        for distance in FLAT:
            cases[f'lattice {ties} {distance}'] = Case(
                lattice(30, 1, np.arange(30) % 2), lattice(40, 2, halves(40)), ties=ties, distance=distance
            )
    cases['the same rows on both ranks, under other numbers'] = Case(lattice(60, 4, np.arange(60) % 2), block_size=11)

    cases['sorted by class'] = Case(side(owner=None), block_size=5)
    cases['sorted by class'].query.owner = (cases['sorted by class'].query.keys['labels'].numpy() > 3).astype(int)
    cases['rank 1 has nothing'] = Case(side(20, seed=1, owner=np.zeros(20)), side(45, seed=2, owner=np.zeros(45)))
    cases['rank 0 has nothing'] = Case(side(owner=np.ones(50)), distance='euclidean')
    cases['queries on rank 0, gallery on rank 1'] = Case(
        side(20, seed=1, owner=np.zeros(20)), side(45, seed=2, owner=np.ones(45)), distance='dot'
    )
    for case in ('rank 1 has nothing', 'rank 0 has nothing'):
        labeled = cases[case].query
        labeled.keys['labels'] = texts('class', labeled.keys['labels'])
    labeled = cases['rank 1 has nothing'].gallery
    labeled.keys['labels'] = texts('class', labeled.keys['labels'])

    ids = texts('image', random.integers(0, 30, 65))
    groups = random.integers(0, 3, 65)
    query = side(20, seed=1, ids=ids[:20], groups=groups[:20])
    gallery = side(45, seed=2, ids=ids[20:], groups=groups[20:])
    cases['ids and groups'] = Case(query, gallery)
    cases['groups, and ids that are not used'] = Case(query, gallery, exclude_self=False)
    cases['ids and groups of one side'] = Case(side(ids=ids[:50], groups=texts('camera', groups[:50])))
    cases['queries find themselves'] = Case(side(), exclude_self=False)

    rare = side(50, classes=30, seed=7)
    cases['some without a positive are skipped'] = Case(rare)
    cases['some without a positive miss'] = Case(rare, no_positive='miss')
    cases['nobody has a positive, all miss'] = Case(
        side(6, seed=8, owner=halves(6)), Side(torch.eye(6)[:5], torch.arange(100, 105), halves(5)), no_positive='miss'
    )

    huge = side(seed=9)
    huge.keys['labels'] = 2**62 + huge.keys['labels'] % 4
    cases['labels that no float can tell apart'] = Case(huge)
    half = side(seed=10)
    half.rows = half.rows.half()
    cases['half precision'] = Case(half)
    double = side(seed=11)
    double.rows = double.rows.double()
    cases['double precision in the gallery only'] = Case(side(20, seed=1), double)
    cases['one class'] = Case(side(classes=1, seed=12))
    cases['shallow measures'] = Case(side(200, seed=13), metrics=('Recall@K', 'CMC@2'), recall_at=(1, 3))

    # 3e-6 apart, and far shorter than the rows of rank 1: close for a product in fp32, and no tie.
    short = torch.tensor([[1.0, 0.0], [1 - 3e-6, 2.4e-3], [0.0, 10.0], [0.0, 10.0], [0.0, -10.0], [0.0, -10.0]])
    for distance in ('dot', 'euclidean'):
        cases[f'norms that differ between the ranks {distance}'] = Case(
            Side(short[:1], torch.tensor([0]), [0]),
            Side(short, torch.tensor([0, 1, 2, 2, 2, 2]), [0, 0, 1, 1, 1, 1]),
            distance=distance,
        )
    far = side(20, seed=1)
    far.rows *= torch.logspace(-6, 6, 20)[:, None]
    for distance in FLAT:
        cases[f'queries whose norms differ {distance}'] = Case(far, side(45, seed=2), distance=distance, block_size=3)
    vast = side(30, seed=16)
    vast.rows *= 2.0 ** torch.linspace(-100, 100, 30).round()[:, None]
    cases['rows of any norm'] = Case(vast)
    objects = side(30, seed=17)
    objects.keys['labels'] = np.array(texts('class', objects.keys['labels']), dtype=object)
    cases['strings as objects'] = Case(objects)

    three = side(40, seed=14, owner=random.integers(0, 3, 40))
    cases['three ranks'] = Case(three, world_size=3, block_size=4)
    cases['three ranks, one with queries only'] = Case(
        side(20, seed=1, owner=np.arange(20) % 3), side(45, seed=2, owner=halves(45) * 2), world_size=3
    )
    cases['three ranks euclidean lattice'] = Case(
        lattice(40, 6, np.arange(40) % 3), world_size=3, distance='euclidean', ties='optimistic'
    )
    return cases


def bad_cases():
    """Calls that must fail on both ranks, and what they must say: rank -> arguments."""
    rows, labels = torch.arange(18.0).view(6, 3), torch.arange(6) % 2

    def with_value(value):
        wrong = rows.clone()
        wrong[2] = value
        return wrong

    def call(query=rows, query_labels=labels, **more):
        return dict(query=query, query_labels=query_labels, **more)

    none = torch.empty(0, 3)
    empty = call(gallery=none, gallery_labels=[])
    gallery = dict(gallery=rows, gallery_labels=labels)
    return {
        'nan': ([call(), call(with_value(torch.nan))], ValueError, r'rank 1: query .*not finite.* 1 of 6 rows: 2'),
        'inf in the gallery': (
            [call(gallery=with_value(torch.inf), gallery_labels=labels), call(**gallery)],
            ValueError,
            r'rank 0: gallery .*not finite.* 1 of 6 rows: 2',
        ),
        'empty gallery': ([empty, empty], ValueError, 'gallery is empty on all ranks'),
        'no queries': ([call(none, [], **gallery)] * 2, ValueError, 'no queries on any rank'),
        'labels too short': ([call(), call(query_labels=labels[:5])], ValueError, r'rank 1: query_labels .*\(6,\)'),
        'float labels': ([call(query_labels=labels / 2), call()], TypeError, 'rank 0: query_labels must be integers'),
        'strings and integers': (
            [call(), call(query_labels=list('ababab'))],
            TypeError,
            r"labels must be all integers.*'query_labels on rank 1': 'strings'",
        ),
        'widths': ([call(), call(torch.ones(6, 4))], ValueError, "'query on rank 1': 4"),
        'options differ': (
            [call(), call(distance='dot')],
            ValueError,
            "called differently: distance is 'cosine' on rank 0 and 'dot' on rank 1",
        ),
        'gallery on one rank only': ([call(**gallery), call()], ValueError, "called differently: gallery is 'given'"),
        'unknown measure': ([call(metrics=('R@1',))] * 2, ValueError, r"rank 0: unknown metrics \['R@1'\]"),
        'unknown distance': ([call(distance='l1')] * 2, ValueError, "unknown distance 'l1'; known are"),
        'block size': ([call(block_size=0)] * 2, ValueError, 'block_size must be at least 1, got 0'),
        'keys without a gallery': ([call(gallery_ids=labels)] * 2, ValueError, 'gallery_ids were given without'),
        'gallery without labels': ([call(gallery=rows)] * 2, ValueError, 'needs gallery_labels'),
        'groups of one side': ([call(query_groups=labels, **gallery)] * 2, ValueError, 'given together'),
        'who is self': ([call(exclude_self=True, **gallery)] * 2, ValueError, 'exclude_self needs query_ids'),
        'nothing to score': (
            [call(query_labels=torch.arange(6)), call(query_labels=torch.arange(6, 12))],
            ValueError,
            'none of the 12 queries has a positive',
        ),
        'not even a tensor': ([call(), call(object())], TypeError, 'rank 1: .*must be numbers, got object'),
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


class Lines(logging.Handler):
    """Messages of the log."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def on_a_rank(rank, world_size, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo',
        init_method=f'file://{folder}/meeting_{world_size}',
        rank=rank,
        world_size=world_size,
        timeout=timedelta(minutes=10),
    )
    logging.getLogger('mmdml').addHandler(lines := Lines())
    found = {}
    for name, case in scores_cases().items():
        if case.world_size == world_size:
            lines.texts.clear()
            found[name] = case.on_rank(rank), list(lines.texts)
    if world_size == 2:
        for name, (calls, _, _) in bad_cases().items():
            try:
                sharded_retrieval_scores(**calls[rank])
            except Exception as error:
                found[name] = type(error).__name__, str(error)
        arguments = wide_case().arguments(rank)
        with LargestTensor() as largest:
            found['wide'] = sharded_retrieval_scores(**arguments)
        found['entries'] = largest.entries
        steps = []
        sharded_retrieval_scores(
            **scores_cases()['self cosine'].arguments(rank), progress=lambda *now: steps.append(now)
        )
        found['steps'] = steps
    torch.save(found, f'{folder}/{world_size}_{rank}.pth')
    dist.barrier()
    dist.destroy_process_group()


def wide_case():
    return Case(side(128, dim=64, seed=15, owner=halves(128)), block_size=8)


def run(world_size, folder):
    run_ranks(on_a_rank, world_size, str(folder), number=world_size)
    return [torch.load(folder / f'{world_size}_{rank}.pth') for rank in range(world_size)]


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """World size -> what each rank found, by name of the case."""
    folder = tmp_path_factory.mktemp('sharded')
    return {world_size: run(world_size, folder) for world_size in (2, 3)}


@pytest.mark.parametrize('name', scores_cases())
def test_ranks_get_the_scores_of_one_process(results, name):
    case = scores_cases()[name]
    expected = case.alone()
    for found in results[case.world_size]:
        scores, _ = found[name]
        assert list(scores) == list(expected)
        assert scores == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('name', bad_cases())
def test_all_ranks_raise_the_same_error(results, name):
    _, kind, text = bad_cases()[name]
    (left, right) = (found[name] for found in results[2])
    assert left == right
    assert left[0] == kind.__name__
    with pytest.raises(kind, match=text):
        raise kind(left[1])


def test_no_rank_holds_more_than_its_part_of_the_gallery(results):
    case = wide_case()
    part = case.query.of(0)[0].numel()
    assert part * 2 == case.query.rows.numel()
    for found in results[2]:
        assert found['wide'] == pytest.approx(case.alone(), abs=1e-12)
        assert found['entries'] == part


def test_one_rank_logs_queries_without_a_positive(results):
    (_, lines), (_, silence) = (found['some without a positive are skipped'] for found in results[2])
    assert len(lines) == 1 and 'of 50 queries have no positive in the gallery and are left out' in lines[0]
    assert silence == []


def test_progress_counts_the_queries_of_all_ranks(results):
    case = scores_cases()['self cosine']
    parts = [len(case.query.of(rank)[0]) for rank in range(2)]
    done = [*range(7, parts[0], 7), parts[0], *range(parts[0] + 7, 50, 7), 50]
    assert [found['steps'] for found in results[2]] == [[(now, 50) for now in done]] * 2


@pytest.mark.parametrize('name', ['self euclidean', 'gallery dot', 'ids and groups', 'rank 1 has nothing'])
def test_without_processes_the_part_is_everything(name):
    case = scores_cases()[name]
    whole = case.arguments(*range(case.world_size))
    assert sharded_retrieval_scores(**whole) == pytest.approx(case.alone(), abs=1e-12)


def test_numpy_arrays_may_run_backwards():
    whole = side(30, seed=18)
    rows, labels = whole.rows.numpy(), whole.keys['labels'].numpy()
    expected = retrieval_scores(rows[::-1].copy(), labels[::-1].copy(), metrics=ALL)
    assert sharded_retrieval_scores(rows[::-1], labels[::-1], metrics=ALL) == pytest.approx(expected, abs=1e-12)
