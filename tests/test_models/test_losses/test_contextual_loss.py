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
    return {i} | {j for j, x in enumerate(s[i]) if x >= kth - epsilon}


def loop(s, labels, k, epsilon, context, mean_weight):
    n = range(len(s))
    near = [neighbors(s, i, k, epsilon) for i in n]
    few = [neighbors(s, i, k // 2, epsilon) for i in n]

    def likeness(i, j):
        return len(near[i] & near[j]) / len(near[i]) if j in near[i] else 0.0

    def expanded(i, j):
        mutual = [r for r in few[i] if i in few[r]]
        return sum(likeness(r, j) for r in mutual) / len(mutual)

    pairs = [(i, j) for i in n for j in n if i != j]
    positive = [(i, j) for i, j in pairs if labels[i] == labels[j]]
    negative = [(i, j) for i, j in pairs if labels[i] != labels[j]]
    errors = [(float(labels[i] == labels[j]) - (expanded(i, j) + expanded(j, i)) / 2) ** 2 for i, j in pairs]
    apart = sum(max(0.75 - s[i][j], 0) for i, j in positive) / len(positive)
    apart += sum(max(s[i][j] - 0.6, 0) for i, j in negative) / len(negative)
    mean = sum(s[i][j] for i, j in pairs) / len(pairs)
    return context * sum(errors) / len(errors) + (1 - context) * apart + mean_weight * mean**2


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
    line = 7.0 * (similarity - similarity.detach()) * (1 - torch.eye(8))
    near = torch.tensor(member, dtype=torch.float64) + line
    total = 0.0
    for i in range(8):
        for j in range(8):
            # k / 2 is 1: nobody but the row itself, unless it is as good as equal.
            assert neighbors(fixed, i, 1, 0.01) == {i}
            both = [(near[a] * near[b]).sum() / sum(member[a]) * near[a, b] for a, b in ((i, j), (j, i))]
            total = total + weight[i, j] * sum(both) / 2
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
        (dict(k=1), 'k must be 2 or more, got 1'),
        (dict(slope=0.0), 'slope must be positive, got 0.0'),
        (dict(context=2.0), r'context must lie in \[0, 1\] and mean_weight be >= 0, got 2.0 and 0.1'),
    ):
        with pytest.raises(ValueError, match=message):
            ContextualLoss(**options)
