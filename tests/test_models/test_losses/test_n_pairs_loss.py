"""N-pairs loss: values by hand, a plain loop, and pytorch-metric-learning."""

import math

import pytest
import torch
from pytorch_metric_learning import distances
from pytorch_metric_learning import losses as pml
from torch.nn.functional import normalize

from mmdml.models.losses import NPairsLoss
from mmdml.registry import MODELS
from mmdml.structures import PairBatch, Pairs, Rows, Triplets


def batch(seed=0):
    """Six anchors, the last one alone in its class; a noisy copy of each and a remembered row among the candidates."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(13, 5, generator=generator, dtype=torch.float64)
    raw[6:12] = raw[:6] + 0.5 * raw[6:12]
    labels, views = torch.tensor([0, 0, 0, 1, 1, 9]), torch.arange(6)
    unit = normalize(raw).requires_grad_()
    candidate_labels = torch.cat([labels, labels, torch.tensor([1])])
    return PairBatch(
        Rows(unit[:6], labels, views), Rows(unit, candidate_labels, torch.cat([views, views, torch.tensor([-1])]))
    )


def loop(pairs, scale):
    values = []
    for i in range(len(pairs.anchors)):
        positives, everything = [], []
        for x in range(len(pairs.candidates)):
            if int(pairs.candidates.views[x, 0]) != int(pairs.anchors.views[i, 0]):
                similarity = float(pairs.anchors.embeddings[i].detach() @ pairs.candidates.embeddings[x].detach())
                everything.append(similarity)
                if pairs.candidates.labels[x] == pairs.anchors.labels[i]:
                    positives.append(similarity)
        if positives:
            log_sum = math.log(sum(math.exp(scale * s) for s in everything))
            values.append(-sum(scale * s - log_sum for s in positives) / len(positives))
    return sum(values) / len(values)


def test_value_by_hand():
    # The positive at 60 degrees, one negative at 90, one at 180: s = 0.5, 0 and -1.
    unit = torch.tensor([[1.0, 0.0], [0.5, 3**0.5 / 2], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    none = torch.tensor([1, 2, 3])
    pairs = PairBatch(
        Rows(unit[:1], torch.tensor([0]), torch.tensor([0])), Rows(unit[1:], torch.tensor([0, 1, 2]), none)
    )
    expected = math.log(math.exp(1) + 1 + math.exp(-2)) - 1
    assert float(NPairsLoss(scale=2.0)(pairs).detach()) == pytest.approx(expected, abs=1e-7)
    assert expected == pytest.approx(0.349012, abs=1e-6)


@pytest.mark.parametrize('scale', [1.0, 12.0])
@pytest.mark.parametrize('seed', range(3))
def test_equals_a_loop_over_the_anchors_that_have_a_positive(seed, scale):
    pairs = batch(seed)
    assert pairs.positive_mask[:5].any(1).all() and not pairs.positive_mask[5].all()
    assert float(NPairsLoss(scale).double()(pairs).detach()) == pytest.approx(loop(pairs, scale), abs=1e-10)


def test_an_anchor_without_positive_adds_nothing():
    unit = normalize(torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    labels, views = torch.tensor([0, 0, 1, 1, 2]), torch.arange(5)
    with_it = PairBatch.from_embeddings(unit, labels)
    without = PairBatch(Rows(unit[:4], labels[:4], views[:4]), Rows(unit, labels, views))
    torch.testing.assert_close(NPairsLoss()(with_it), NPairsLoss()(without), rtol=1e-12, atol=0)


def test_gradient_of_rows_and_scale_is_that_of_the_value():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])

    def of(raw, scale):
        pairs = PairBatch.from_embeddings(normalize(raw), labels)
        return torch.func.functional_call(NPairsLoss(), {'scale': scale}, (pairs,))

    raw = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    scale = torch.tensor(3.0, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(of, (raw, scale))


def test_mined_pairs_replace_the_candidates_and_their_weights_multiply_the_exponentials():
    pairs = batch()
    s = pairs.similarity.detach()[0]
    mined = Pairs(torch.tensor([0, 0, 0]), torch.tensor([1, 2, 4]), torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64))
    log_sum = math.log(math.exp(s[1]) + 3 * math.exp(s[2]) + 0.5 * math.exp(s[4]))
    expected = log_sum - (float(s[1]) + 3 * float(s[2])) / 4
    assert float(NPairsLoss()(pairs, mined).detach()) == pytest.approx(expected, abs=1e-10)
    repeated = Triplets(torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([4, 4]))
    log_sum = math.log(math.exp(s[1]) + math.exp(s[2]) + 2 * math.exp(s[4]))
    expected = log_sum - (float(s[1]) + float(s[2])) / 2
    assert float(NPairsLoss()(pairs, repeated).detach()) == pytest.approx(expected, abs=1e-10)


def test_the_gradient_reaches_all_pairs_of_a_softmax_that_holds_a_positive_and_something_else():
    pairs = batch(1)
    (gradient,) = torch.autograd.grad(NPairsLoss()(pairs), pairs.similarity)
    contested = pairs.positive_mask.any(1, keepdim=True)
    assert torch.equal(gradient != 0, contested & ~pairs.excluded_mask)
    two = PairBatch.from_embeddings(pairs.anchors.embeddings[:2], pairs.anchors.labels[:2])
    (gradient,) = torch.autograd.grad(NPairsLoss()(two), two.similarity)
    assert two.positive_mask.any() and (gradient == 0).all()


@pytest.mark.parametrize('labels', [[0, 1, 2], [4, 4], [7], []], ids=str)
def test_without_a_contested_positive_the_loss_is_zero_with_a_finite_gradient(labels):
    unit = torch.eye(3)[: len(labels)].requires_grad_()
    loss = NPairsLoss()
    value = loss(PairBatch.from_embeddings(unit, torch.tensor(labels, dtype=torch.int64)))
    value.backward()
    assert float(value.detach()) == 0 and (unit.grad == 0).all() and loss.scale.grad == 0


def test_nothing_overflows_at_a_large_scale():
    unit = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]).requires_grad_()
    value = NPairsLoss(scale=1000.0)(PairBatch.from_embeddings(unit, torch.tensor([0, 0, 1])))
    value.backward()
    # Anchor 0: the positive at -1 against a negative at 1, 2000 apart; anchor 1: both at -1, ln 2.
    assert float(value.detach()) == pytest.approx((2000 + math.log(2)) / 2) and torch.isfinite(unit.grad).all()


def test_autocast_changes_nothing_and_half_precision_is_computed_in_fp32():
    unit = batch().anchors.embeddings.detach().to(torch.bfloat16)
    labels = torch.tensor([0, 0, 0, 1, 1, 9])
    expected = NPairsLoss()(PairBatch.from_embeddings(unit.float(), labels))
    with torch.autocast('cpu', torch.bfloat16):
        value = NPairsLoss()(PairBatch.from_embeddings(unit, labels))
    assert value.dtype == torch.float32 and torch.equal(value, expected)


@pytest.mark.parametrize('learn', [True, False])
def test_the_scale_is_a_parameter_only_if_it_learns(learn):
    loss = MODELS.build(dict(type='NPairsLoss', scale=4.0, learn_scale=learn))
    assert loss.scale == 4 and len(list(loss.parameters())) == len(loss.state_dict()) == int(learn)


def test_a_step_of_the_scale_across_zero_does_not_turn_the_loss_upside_down():
    gradients = []
    for scale in (2.0, -2.0):
        loss, pairs = NPairsLoss(), batch()
        loss.scale.data.fill_(scale)
        gradients.append(torch.autograd.grad(loss(pairs), pairs.candidates.embeddings)[0])
    assert torch.equal(*gradients)


@pytest.mark.parametrize('scale', [0.0, -1.0])
def test_a_scale_that_is_not_positive_is_refused(scale):
    with pytest.raises(ValueError, match='scale must be positive'):
        NPairsLoss(scale)


@pytest.mark.parametrize('seed', range(2))
def test_agrees_with_the_supervised_contrastive_loss_of_pytorch_metric_learning(seed):
    raw = torch.randn(9, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 3])
    gradients = []
    for function in (
        lambda x: NPairsLoss(scale=5.0)(PairBatch.from_embeddings(normalize(x), labels)),
        lambda x: pml.SupConLoss(temperature=0.2)(x, labels),
    ):
        x = raw.clone().requires_grad_()
        value = function(x)
        gradients.append((value.detach(), torch.autograd.grad(value, x)[0]))
    assert gradients[0][0] > 0
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('seed', range(2))
def test_agrees_with_the_n_pairs_loss_of_pytorch_metric_learning_for_one_pair_per_class(seed):
    raw = torch.randn(8, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels = torch.arange(4).repeat_interleave(2)
    anchors, positives = torch.arange(0, 8, 2), torch.arange(1, 8, 2)
    theirs = pml.NPairsLoss(distance=distances.DotProductSimilarity(normalize_embeddings=True))
    expected = theirs(raw, labels, (anchors, positives, anchors[:0], anchors[:0]))
    unit = normalize(raw)
    pairs = PairBatch(
        Rows(unit[anchors], labels[anchors], anchors), Rows(unit[positives], labels[positives], positives)
    )
    torch.testing.assert_close(NPairsLoss()(pairs).detach(), expected, rtol=1e-6, atol=1e-8)
