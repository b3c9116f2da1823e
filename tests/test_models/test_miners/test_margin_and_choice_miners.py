"""Miners of pairs and triplets by margin, angle, share and choice: against plain loops and pytorch-metric-learning."""

import itertools
import math

import pytest
import torch
from pytorch_metric_learning import miners as pml
from torch.nn.functional import normalize

from mmdml.models.miners import (
    AngularMiner,
    EasyHardMiner,
    HardClusterMiner,
    HardFractionMiner,
    PairMarginMiner,
    TripletMarginMiner,
    triplet_blocks,
)
from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Pairs, Rows, Triplets

LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 9])
ONE_SIDE = ('easy', 'semi-hard', 'hard', 'all')
FITTING = [
    choice
    for choice in itertools.product(ONE_SIDE, ONE_SIDE)
    if 'semi-hard' not in choice or not set(choice) <= {'semi-hard', 'all'}
]


def batch_with_copies(seed=0):
    """Ten anchors, twenty candidates: a real and a synthetic row per view; label 9 is alone."""
    raw = torch.randn(20, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    raw[10:] = raw[:10] + 0.5 * raw[10:]
    unit, views = normalize(raw), torch.arange(10)
    return PairBatch(Rows(unit[:10], LABELS, views), Rows(unit, LABELS.repeat(2), views.repeat(2)))


def plain_batch(seed=0):
    raw = torch.randn(10, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return PairBatch.from_embeddings(normalize(raw), LABELS)


def sides(pairs, i):
    """Distances and columns of the positives and of the negatives of an anchor."""
    found = ([], [])
    for x in range(len(pairs.candidates)):
        if x % 10 != i:
            distance = float((pairs.anchors.embeddings[i] - pairs.candidates.embeddings[x]).norm())
            found[int(pairs.candidates.labels[x] != pairs.anchors.labels[i])].append((distance, x))
    return found


def as_set(mined):
    return set(zip(*(index.tolist() for index in mined if index is not None), strict=True))


def choose(candidates, choice, is_positive, bound):
    """The candidate that a choice names, None for none; all of them for 'all'."""
    if choice == 'semi-hard':
        candidates = [entry for entry in candidates if (entry[0] < bound if is_positive else entry[0] > bound)]
    if choice == 'all':
        return candidates
    nearest = (choice == 'easy') == is_positive
    return (min if nearest else max)(candidates, default=None)


def by_loop(pairs, choices, spans):
    """Positive and negative pairs, or triplets."""
    triplets, found = set(), (set(), set())
    for i in range(10):
        both = [
            [entry for entry in side if span is None or span[0] <= entry[0] <= span[1]]
            for side, span in zip(sides(pairs, i), spans, strict=True)
        ]
        order = sorted((0, 1), key=lambda side: choices[side] == 'semi-hard')
        chosen = {}
        for side in order:
            bound = None
            if choices[side] == 'semi-hard':
                if chosen[1 - side] is None:
                    chosen[side] = None
                    continue
                bound = chosen[1 - side][0]
            chosen[side] = choose(both[side], choices[side], side == 0, bound)
        if 'all' not in choices:
            if chosen[0] and chosen[1]:
                triplets.add((i, chosen[0][1], chosen[1][1]))
            continue
        for side in (0, 1):
            entries = chosen[side] if choices[side] == 'all' else [chosen[side]] if chosen[side] else []
            found[side].update((i, x) for _, x in entries)
    return triplets if 'all' not in choices else found[0] | found[1]


@pytest.mark.parametrize('spans', [(None, None), ((0.3, 1.2), (0.5, 1.5))], ids=['all', 'ranges'])
@pytest.mark.parametrize('choices', FITTING, ids='-'.join)
def test_easy_hard_miner_equals_a_loop(choices, spans):
    number = 0
    for pairs in (batch_with_copies(), plain_batch(1), plain_batch(3)):
        mined = EasyHardMiner(*choices, *spans)(pairs)
        assert isinstance(mined, Pairs if 'all' in choices else Triplets)
        assert as_set(mined) == by_loop(pairs, choices, spans) and len(mined.anchor) == len(as_set(mined))
        number += len(mined.anchor)
    assert number > 0


@pytest.mark.parametrize('choices', FITTING, ids='-'.join)
def test_easy_hard_miner_agrees_with_pytorch_metric_learning(choices):
    # There, 'all' has no range.
    pairs, spans = plain_batch(2), () if 'all' in choices else ((0.2, 1.7), (0.4, 1.8))
    theirs = pml.BatchEasyHardMiner(*(choice.replace('-', '') for choice in choices), *spans)
    a, p, a2, n = theirs(pairs.anchors.embeddings, LABELS)
    mined = EasyHardMiner(*choices, *spans)(pairs)
    expected = as_set(Triplets(a, p, n)) if 'all' not in choices else as_set(Pairs(a, p)) | as_set(Pairs(a2, n))
    assert as_set(mined) == expected != set()


def test_pair_margin_miner_equals_a_loop_and_pytorch_metric_learning():
    pairs = batch_with_copies()
    expected = set()
    for i in range(10):
        positives, negatives = sides(pairs, i)
        expected |= {(i, x) for distance, x in positives if distance > 0.9}
        expected |= {(i, x) for distance, x in negatives if distance < 1.3}
    mined = PairMarginMiner(0.9, 1.3)(pairs)
    assert as_set(mined) == expected and len(mined.anchor) == len(expected) > 0
    pairs = plain_batch()
    a, p, a2, n = pml.PairMarginMiner(0.9, 1.3)(pairs.anchors.embeddings, LABELS)
    assert as_set(PairMarginMiner(0.9, 1.3)(pairs)) == as_set(Pairs(a, p)) | as_set(Pairs(a2, n))


@pytest.mark.parametrize('fraction', [0.05, 0.5, 1.0])
def test_hard_fraction_miner_equals_a_loop_and_pytorch_metric_learning(fraction):
    pairs = batch_with_copies()
    both = [[], []]
    for i in range(10):
        for kind, side in zip(both, sides(pairs, i), strict=True):
            kind += [(distance, (i, x)) for distance, x in side]
    positives, negatives = sorted(both[0], reverse=True), sorted(both[1])
    expected = {pair for _, pair in positives[: math.ceil(fraction * len(positives))]}
    expected |= {pair for _, pair in negatives[: math.ceil(fraction * len(negatives))]}
    assert as_set(HardFractionMiner(fraction)(pairs)) == expected
    pairs = plain_batch()
    a, p, a2, n = pml.HDCMiner(fraction)(pairs.anchors.embeddings, LABELS)
    # Both orders of a pair are equally far: of the two only one may fit into the share.
    ours, theirs = as_set(HardFractionMiner(fraction)(pairs)), as_set(Pairs(a, p)) | as_set(Pairs(a2, n))
    assert {frozenset(pair) for pair in ours} == {frozenset(pair) for pair in theirs}


KINDS = {
    'all': lambda gap: gap <= 0.2,
    'hard': lambda gap: gap <= 0,
    'semi-hard': lambda gap: 0 < gap <= 0.2,
    'easy': lambda gap: gap > 0.2,
}


@pytest.mark.parametrize('kind', KINDS)
def test_triplet_margin_miner_equals_a_loop_and_pytorch_metric_learning(kind, monkeypatch):
    monkeypatch.setattr(triplet_blocks, 'BLOCK_ENTRIES', 70)  # several blocks
    pairs = batch_with_copies()
    expected = set()
    for i in range(10):
        positives, negatives = sides(pairs, i)
        expected |= {(i, p, n) for near, p in positives for far, n in negatives if KINDS[kind](far - near)}
    mined = TripletMarginMiner(0.2, kind)(pairs)
    assert as_set(mined) == expected and len(mined.anchor) == len(expected) > 0
    pairs = plain_batch()
    theirs = pml.TripletMarginMiner(0.2, kind.replace('-', ''))(pairs.anchors.embeddings, LABELS)
    assert as_set(TripletMarginMiner(0.2, kind)(pairs)) == as_set(theirs)


@pytest.mark.parametrize('angle', [0, 20, 40])
def test_angular_miner_equals_a_loop_and_pytorch_metric_learning(angle, monkeypatch):
    monkeypatch.setattr(triplet_blocks, 'BLOCK_ENTRIES', 70)
    pairs = batch_with_copies()
    rows, expected = pairs.candidates.embeddings, set()
    for i in range(10):
        positives, negatives = sides(pairs, i)
        for (near, p), (_, n) in itertools.product(positives, negatives):
            center = (pairs.anchors.embeddings[i] + rows[p]) / 2
            if math.degrees(math.atan2(near, 2 * float((rows[n] - center).norm()))) > angle:
                expected.add((i, p, n))
    mined = AngularMiner(angle)(pairs)
    assert as_set(mined) == expected and len(mined.anchor) == len(expected) > 0
    pairs = plain_batch()
    assert as_set(AngularMiner(angle)(pairs)) == as_set(pml.AngularMiner(angle)(pairs.anchors.embeddings, LABELS))


def test_hard_cluster_miner_equals_a_loop():
    pairs = batch_with_copies(3)
    rows, labels = pairs.candidates.embeddings, pairs.candidates.labels
    mean = {int(label): rows[labels == label].mean(0) for label in labels.unique()}
    expected = set()
    for label, center in mean.items():
        own = [i for i in range(10) if LABELS[i] == label]
        anchor = min(own, key=lambda i: float((rows[i] - center).norm()))
        positives = [x for x in range(20) if labels[x] == label and x % 10 != anchor]
        other = min((one for one in mean if one != label), key=lambda one: float((mean[one] - center).norm()))
        negatives = [x for x in range(20) if labels[x] == other]
        if positives:
            farthest = max(positives, key=lambda x: float((rows[x] - center).norm()))
            expected.add((anchor, farthest, min(negatives, key=lambda x: float((rows[x] - mean[other]).norm()))))
    assert as_set(HardClusterMiner()(pairs)) == expected and len(expected) == 3


MINERS = [
    'AngularMiner',
    'EasyHardMiner',
    'HardClusterMiner',
    'HardFractionMiner',
    'PairMarginMiner',
    'TripletMarginMiner',
]


@pytest.mark.parametrize('name', MINERS)
@pytest.mark.parametrize('labels', [[0, 1, 2], [0, 0, 0], [0], []], ids=str)
def test_batches_without_positives_or_negatives_give_index_tensors(name, labels):
    pairs = PairBatch.from_embeddings(torch.eye(3)[: len(labels)], torch.tensor(labels, dtype=torch.int64))
    mined = TASK_UTILS.build(dict(type=name))(pairs)
    indices = [index for index in mined if index is not None]
    assert all(index.dtype == torch.int64 for index in indices) and len({len(index) for index in indices}) == 1
    if isinstance(mined, Triplets):
        assert len(mined.anchor) == 0


@pytest.mark.parametrize(
    'options, fault',
    [
        (dict(type='EasyHardMiner', positives='near'), "positives must be one of .*, got 'near'"),
        (dict(type='EasyHardMiner', positives='semi-hard', negatives='all'), "'semi-hard' compares with the one"),
        (dict(type='EasyHardMiner', negative_range=(1, 0.5)), 'negative_range must be two distances'),
        (dict(type='EasyHardMiner', positive_range=0.5), 'positive_range must be two distances.*, got 0.5'),
        (dict(type='EasyHardMiner', positive_range=['0.1', 1]), 'positive_range must be two distances'),
        (dict(type='PairMarginMiner', pos_margin=-1), 'margins are distances of 0 or more'),
        (dict(type='HardFractionMiner', fraction=0), r'fraction must be in \(0, 1\], got 0'),
        (dict(type='TripletMarginMiner', kind='semihard'), "kind must be one of .*, got 'semihard'"),
        (dict(type='AngularMiner', angle=90), r'degrees in \[0, 90\), got 90'),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_options_are_named(options, fault):
    with pytest.raises(ValueError, match=fault):
        TASK_UTILS.build(options)


@pytest.mark.parametrize('name', sorted(name for name in TASK_UTILS.module_dict if name.endswith('Miner')))
def test_no_candidates_give_nothing_and_autocast_changes_nothing(name):
    rows = Rows.of_batch(
        normalize(torch.randn(40, 8, generator=torch.Generator().manual_seed(0))), torch.arange(40) // 4
    )
    miner = TASK_UTILS.build(dict(type=name))
    for sides in ((rows, rows[:0]), (rows[:0], rows), (rows[:0], rows[:0])):
        assert len(miner(PairBatch(*sides)).anchor) == 0

    def mined():
        torch.manual_seed(0)
        return [index for index in miner(PairBatch(rows, rows)) if index is not None]

    with torch.autocast('cpu', torch.bfloat16):
        found = mined()
    assert all(map(torch.equal, found, mined()))
