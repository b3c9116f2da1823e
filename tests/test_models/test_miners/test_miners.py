"""Miners against plain loops."""

import pytest
import torch
from torch.nn.functional import normalize

from mmdml.models.losses import ContrastiveLoss
from mmdml.models.miners import BatchHardMiner, MultiSimilarityMiner
from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Pairs, Rows, Triplets


def batch_with_copies(seed):
    """Ten anchors, twenty candidates: a real and a synthetic row per view; label 9 is alone."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(20, 5, generator=generator)
    raw[10:] = raw[:10] + 0.3 * raw[10:]
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 9])
    views = torch.arange(10)
    unit = normalize(raw).requires_grad_()
    return PairBatch(Rows(unit[:10], labels, views), Rows(unit, labels.repeat(2), views.repeat(2)))


def sides(pairs, i):
    positives, negatives = [], []
    for x in range(20):
        if x % 10 != i:
            same = pairs.candidates.labels[x] == pairs.anchors.labels[i]
            (positives if same else negatives).append((pairs.similarity[i, x].item(), x))
    return positives, negatives


@pytest.mark.parametrize('seed', range(5))
def test_multi_similarity_miner_equals_a_loop(seed):
    pairs = batch_with_copies(seed)
    expected = set()
    for i in range(10):
        positives, negatives = sides(pairs, i)
        positives = [entry for entry in positives if entry[0] < 1 - 1e-5]
        if not positives:
            continue
        hard_negatives = [x for s, x in negatives if s + 0.1 > min(positives)[0]]
        hard_positives = [x for s, x in positives if s - 0.1 < max(negatives)[0]]
        if hard_negatives and hard_positives:
            expected |= {(i, x) for x in hard_negatives + hard_positives}
    mined = MultiSimilarityMiner(epsilon=0.1)(pairs)
    assert isinstance(mined, Pairs) and mined.weight is None
    assert len(mined.anchor) == len(expected)
    assert set(zip(mined.anchor.tolist(), mined.candidate.tolist(), strict=True)) == expected


@pytest.mark.parametrize('seed', range(5))
def test_batch_hard_miner_equals_a_loop(seed):
    pairs = batch_with_copies(seed)
    expected = []
    for i in range(10):
        positives, negatives = sides(pairs, i)
        if positives:
            expected.append((i, min(positives)[1], max(negatives)[1]))
    mined = BatchHardMiner()(pairs)
    assert isinstance(mined, Triplets) and len(expected) == 9
    assert list(zip(*(index.tolist() for index in mined), strict=True)) == expected


@pytest.mark.parametrize('miner', [MultiSimilarityMiner(), BatchHardMiner()], ids=str)
def test_mining_leaves_the_graph_of_the_similarity_to_the_loss(miner):
    pairs = batch_with_copies(0)
    mined = miner(pairs)
    value = ContrastiveLoss()(pairs, mined)
    (gradient,) = torch.autograd.grad(value, pairs.candidates.embeddings)
    assert not any(index.requires_grad for index in mined if index is not None) and gradient.abs().sum() > 0


@pytest.mark.parametrize('miner', [MultiSimilarityMiner(), BatchHardMiner()], ids=str)
@pytest.mark.parametrize('labels', [[0, 1, 2], [0, 0, 0], [0], []], ids=str)
def test_nothing_to_mine_gives_empty_index_tensors(miner, labels):
    mined = miner(PairBatch.from_embeddings(torch.eye(3)[: len(labels)], torch.tensor(labels, dtype=torch.int64)))
    indices = [index for index in mined if index is not None]
    assert all(index.shape == (0,) and index.dtype == torch.int64 for index in indices)


def test_near_duplicate_positives_are_dropped_before_the_minimum_is_taken():
    unit = normalize(torch.tensor([[1.0, 0.0], [1.0, 1e-4], [0.0, 1.0], [0.0, 1.0]]))
    mined = MultiSimilarityMiner(epsilon=2.0)(PairBatch.from_embeddings(unit, torch.tensor([0, 0, 1, 1])))
    assert len(mined.anchor) == 0


@pytest.mark.parametrize('name', ['MultiSimilarityMiner', 'BatchHardMiner'])
def test_miners_build_from_a_config(name):
    miner = TASK_UTILS.build(dict(type=name))
    assert len(miner(batch_with_copies(1)).anchor) > 0
