"""Contextual loss: plain loops over sets of neighbors, and the gradient of its steps."""

import pytest
import torch
from torch.nn.functional import normalize

from mmdml.models.losses import ContextualLoss
from mmdml.structures import PairBatch, Rows, Triplets

LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
OPTIONS = dict(k=3, epsilon=0.1, context=0.4, mean_weight=0.3)


def raw_rows(seed=0):
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def neighbors(s, i, k, epsilon):
    ranked = sorted((x for j, x in enumerate(s[i]) if j != i), reverse=True)
    kth = ranked[k - 2] if k > 1 else 1.0
    return {i} | {j for j, x in enumerate(s[i]) if 2 - 2 * x <= 2 - 2 * kth + epsilon}


def loop(s, labels, k, epsilon, context, mean_weight):
    n = range(len(s))
    near = [neighbors(s, i, k, epsilon) for i in n]
    few = [neighbors(s, i, k // 2, epsilon) for i in n]

    def likeness(i, j):
        far = [set(n) - near[i], set(n) - near[j]]
        shares = len(near[i] & near[j]) / len(near[i]) + len(far[0] & far[1]) / max(len(far[0]), 1)
        return shares / 2 if j in near[i] else 0.0

    def expanded(i, j):
        mutual = [r for r in few[i] if i in few[r]]
        return sum(likeness(r, j) for r in mutual) / len(mutual)

    pairs = [(i, j) for i in n for j in n if i != j]
    positive = [(i, j) for i, j in pairs if labels[i] == labels[j]]
    negative = [(i, j) for i, j in pairs if labels[i] != labels[j]]
    errors = [(float(labels[i] == labels[j]) - (expanded(i, j) + expanded(j, i)) / 2) ** 2 for i, j in pairs]
    hinges = [0.75 - s[i][j] for i, j in positive], [s[i][j] - 0.6 for i, j in negative]
    active = [[x for x in side if x > 0] for side in hinges]
    apart = sum(sum(side) / max(len(side), 1) for side in active)
    mean = sum(map(sum, s)) / len(s) ** 2
    rest = 1 - context - mean_weight
    return context * sum(errors) / len(s) ** 2 + rest * apart + mean_weight * (mean - 0.25) ** 2


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('k', [2, 3, 4])
def test_equals_a_loop_over_sets_of_neighbors(seed, k):
    pairs = PairBatch.from_embeddings(normalize(raw_rows(seed)), LABELS)
    options = {**OPTIONS, 'k': k}
    expected = loop(pairs.similarity.tolist(), LABELS.tolist(), **options)
    assert float(ContextualLoss(**options)(pairs)) == pytest.approx(expected, rel=1e-10)


def test_the_gradient_of_the_steps_is_that_of_lines():
    raw = raw_rows().requires_grad_()
    loss = ContextualLoss(k=3, epsilon=0.01, slope=7.0)
    similarity = PairBatch.from_embeddings(normalize(raw), LABELS).similarity
    weight = torch.randn(8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (actual,) = torch.autograd.grad((weight * loss.contextual_similarity(similarity)).sum(), raw)

    similarity = PairBatch.from_embeddings(normalize(raw), LABELS).similarity
    fixed = similarity.tolist()
    member = [[float(j in neighbors(fixed, i, 3, 0.01)) for j in range(8)] for i in range(8)]
    # The slope is over squared distances, 2 - 2s.
    line = 2 * 7.0 * (similarity - similarity.detach()) * (1 - torch.eye(8))
    near = torch.tensor(member, dtype=torch.float64) + line
    # k / 2 is 1: nobody but the row itself, unless it is as good as equal.
    assert all(neighbors(fixed, i, 1, 0.01) == {i} for i in range(8))
    few = torch.eye(8, dtype=torch.float64) + line
    size = [sum(row) for row in member]
    likeness = torch.zeros(8, 8, dtype=torch.float64)
    for i in range(8):
        for j in range(8):
            shares = (near[i] * near[j]).sum() / size[i] + ((1 - near[i]) * (1 - near[j])).sum() / (8 - size[i])
            likeness[i, j] = shares / 2 * near[i, j]
    total = 0.0
    for i in range(8):
        mutual = few[i] * few[:, i]
        expanded = (mutual[:, None] * likeness).sum(0) / mutual.sum()
        total = total + (weight[i] + weight[:, i]) @ expanded / 2
    (expected,) = torch.autograd.grad(total, raw)
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-10)
    assert actual.abs().sum() > 0


def test_rows_with_the_neighbors_of_their_class_have_no_contextual_loss():
    raw = torch.eye(4, dtype=torch.float64).repeat_interleave(2, 0) + 0.01 * raw_rows()[:, :1]
    pairs = PairBatch.from_embeddings(normalize(raw), torch.arange(4).repeat_interleave(2))
    assert float(ContextualLoss(k=2, context=1.0, mean_weight=0.0)(pairs)) == pytest.approx(0)


def test_what_it_cannot_use_is_refused_by_name():
    rows = Rows.of_batch(normalize(raw_rows()), LABELS)
    with pytest.raises(ValueError, match='ContextualLoss compares the neighbors of all rows and cannot use mined Tri'):
        ContextualLoss()(PairBatch(rows, rows), Triplets.none())
    with pytest.raises(ValueError, match='ContextualLoss uses class labels and cannot use targets that differ'):
        ContextualLoss()(PairBatch(rows, rows, targets=torch.ones(8, 8)))
    for options, message in (
        (dict(k=1), 'k must be an integer of at least 2, got 1'),
        (dict(slope=0.0), 'slope must be positive, got 0.0'),
        (dict(context=2.0), 'context and mean_weight must be >= 0, of sum 1 at most, got 2.0 and 0.1'),
        (dict(context=0.5, mean_weight=0.6), 'of sum 1 at most, got 0.5 and 0.6'),
    ):
        with pytest.raises(ValueError, match=message):
            ContextualLoss(**options)
