"""Proxy-NCA loss: values by hand, a plain loop, and pytorch-metric-learning."""

import math

import pytest
import torch
from pytorch_metric_learning import losses as pml
from torch.nn.functional import normalize

from mmdml.models.heads import DivideAndConquerHead
from mmdml.models.losses import ProxyNCALoss
from mmdml.models.necks import DivideAndConquerEmbedding
from mmdml.registry import MODELS
from mmdml.structures import PairBatch, Rows, Triplets


def batch(rows=7, seed=0):
    """Rows of which only the first four are anchors."""
    generator = torch.Generator().manual_seed(seed)
    unit = normalize(torch.randn(rows, 3, generator=generator, dtype=torch.float64)).requires_grad_()
    labels, views = torch.randint(0, 5, (rows,), generator=generator), torch.arange(rows)
    return PairBatch(Rows(unit[:4], labels[:4], views[:4]), Rows(unit, labels, views))


def seeded(scale=3.0, classes=5, width=3):
    loss = ProxyNCALoss(classes, width, scale).double()
    generator = torch.Generator().manual_seed(9)
    # Of many lengths, none of which must matter.
    loss.proxies.data = 2 * torch.randn(classes, width, generator=generator, dtype=torch.float64)
    return loss


def loop(loss, pairs):
    scale, total = loss.scale, 0.0
    for x, label in zip(pairs.candidates.embeddings.detach(), pairs.candidates.labels.tolist(), strict=True):
        squared = []
        for proxy in loss.proxies.detach():
            difference = scale * x - scale * proxy / proxy.norm()
            squared.append(float(difference @ difference))
        others = sum(math.exp(-d) for z, d in enumerate(squared) if z != label)
        total -= math.log(math.exp(-squared[label]) / others)
    return total / len(pairs.candidates)


def test_value_by_hand():
    loss = ProxyNCALoss(num_classes=3, embed_dim=2, scale=1.0)
    loss.proxies.data = torch.tensor([[2.0, 0.0], [0.0, 0.5], [-1.0, 0.0]])
    pairs = PairBatch.from_embeddings(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    # Squared distances 0, 2 and 4.
    assert float(loss(pairs).detach()) == pytest.approx(math.log(math.exp(-2) + math.exp(-4)), abs=1e-6)
    pairs = PairBatch.from_embeddings(torch.tensor([[1.0, 0.0]]), torch.tensor([2]))
    assert float(loss(pairs).detach()) == pytest.approx(4 + math.log(1 + math.exp(-2)), abs=1e-6)


@pytest.mark.parametrize('scale', [1.0, 3.0])
@pytest.mark.parametrize('seed', range(3))
def test_equals_a_loop_over_all_candidates(seed, scale):
    loss, pairs = seeded(scale), batch(seed=seed)
    assert float(loss(pairs).detach()) == pytest.approx(loop(loss, pairs), abs=1e-9)


def test_gradient_of_rows_and_proxies_is_that_of_the_value():
    labels = torch.tensor([0, 0, 1, 4])

    def of(raw, proxies):
        pairs = PairBatch.from_embeddings(normalize(raw), labels)
        return torch.func.functional_call(seeded(), {'proxies': proxies}, (pairs,))

    raw = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(of, (raw, seeded().proxies.detach().requires_grad_()))


def test_every_row_and_every_proxy_gets_a_gradient():
    loss, pairs = seeded(), batch()
    (rows,) = torch.autograd.grad(loss(pairs), pairs.candidates.embeddings, retain_graph=True)
    loss(pairs).backward()
    assert (rows.abs().sum(1) > 0).all() and (loss.proxies.grad.abs().sum(1) > 0).all()


def test_descent_brings_rows_to_their_own_proxies():
    torch.manual_seed(0)
    loss = ProxyNCALoss(num_classes=4, embed_dim=6)
    raw, labels = torch.randn(12, 6).requires_grad_(), torch.arange(12) % 4
    optimizer = torch.optim.Adam([raw, *loss.parameters()], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        loss(PairBatch.from_embeddings(normalize(raw), labels)).backward()
        optimizer.step()
    assert torch.equal((normalize(raw) @ normalize(loss.proxies).t()).argmax(1), labels)


def test_proxies_start_as_directions_of_length_one():
    torch.testing.assert_close(ProxyNCALoss(6, 5).proxies.norm(dim=1), torch.ones(6))


def test_autocast_changes_nothing_and_half_precision_is_computed_in_fp32():
    loss, labels = seeded().float(), torch.tensor([0, 1, 2, 3])
    unit = batch().anchors.embeddings.detach().to(torch.bfloat16)
    expected = loss(PairBatch.from_embeddings(unit.float(), labels))
    with torch.autocast('cpu', torch.bfloat16):
        value = loss(PairBatch.from_embeddings(unit, labels))
    assert value.dtype == torch.float32 and torch.equal(value, expected)


def test_no_rows_give_a_zero_with_a_graph():
    unit = torch.zeros(0, 3).requires_grad_()
    loss = ProxyNCALoss(2, 3)
    value = loss(PairBatch.from_embeddings(unit, torch.zeros(0, dtype=torch.int64)))
    value.backward()
    assert float(value.detach()) == 0 and (loss.proxies.grad == 0).all()


@pytest.mark.parametrize('scale', [1.0, 3.0])
def test_relates_to_pytorch_metric_learning_by_the_own_proxy_in_the_denominator(scale):
    # Theirs is -ln(e_y / sum of all e) of a row, ours -ln(e_y / sum of the others): ours = ln(exp(theirs) - 1).
    ours, pairs = seeded(scale), batch()
    theirs = pml.ProxyNCALoss(num_classes=5, embedding_size=3, softmax_scale=scale**2)
    theirs.proxies.data = ours.proxies.detach().clone()
    for row in range(len(pairs.candidates)):
        unit, label = pairs.candidates.embeddings[row : row + 1].detach(), pairs.candidates.labels[row : row + 1]
        expected = theirs(unit, label).detach().expm1().log()
        torch.testing.assert_close(ours(PairBatch.from_embeddings(unit, label)).detach(), expected)


def test_mined_tuples_are_refused_not_ignored():
    none = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ValueError, match='cannot use mined Triplets; remove the miner of the head'):
        seeded()(batch(), Triplets(none, none, none))


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(num_classes=1, embed_dim=3), 'num_classes must be 2 or more'),
        (dict(num_classes=5, embed_dim=3, scale=0), 'scale must be positive, got 0'),
    ],
)
def test_bad_options_name_what_would_be_right(options, words):
    with pytest.raises(ValueError, match=words):
        MODELS.build(dict(type='ProxyNCALoss', **options))


def test_another_width_and_a_label_without_proxy_are_named():
    with pytest.raises(ValueError, match='embed_dim=4, but the embeddings have 3 columns'):
        seeded(width=4)(batch())
    unit = torch.eye(3, dtype=torch.float64)
    for label in (-1, 5):
        with pytest.raises(ValueError, match=rf'num_classes=5, so labels must lie in 0\.\.4, got {label}'):
            seeded()(PairBatch.from_embeddings(unit, torch.tensor([0, label, 1])))


def sliced_head(**options):
    head = DivideAndConquerHead(dict(type='ProxyNCALoss', num_classes=5, embed_dim=7), **options)
    head.bind(DivideAndConquerEmbedding(in_channels=4, embed_dim=7, num_learners=3))
    return head


def test_merged_proxies_are_those_of_the_slices_side_by_side():
    head = sliced_head()
    slices = [head.loss_of(learner) for learner in range(3)]
    assert [part.proxies.shape for part in slices] == [(5, 3), (5, 2), (5, 2)]
    assert sum(parameter.numel() for parameter in head.parameters()) == 5 * 7
    joined = torch.cat([normalize(part.proxies) for part in slices], 1) / 3**0.5
    torch.testing.assert_close(joined.norm(dim=1), torch.ones(5))

    whole = ProxyNCALoss(5, 7)
    whole.proxies.data = joined.detach()
    pairs = PairBatch.from_embeddings(normalize(torch.randn(6, 7)), torch.tensor([0, 1, 2, 3, 4, 0]))
    torch.testing.assert_close(head.loss_of(None)(pairs), whole(pairs))
    torch.testing.assert_close(slices[0](pairs, unit_proxies=joined), whole(pairs))
    with pytest.raises(ValueError, match='embed_dim=2, but the embeddings have 7 columns'):
        slices[1](pairs)


def test_slices_cannot_share_one_table_of_proxies_and_masks_have_whole_ones():
    with pytest.raises(ValueError, match='slices cannot share one class-based loss'):
        sliced_head(shared_loss=True)
    head = DivideAndConquerHead(dict(type='ProxyNCALoss', num_classes=5, embed_dim=7))
    head.bind(DivideAndConquerEmbedding(in_channels=4, embed_dim=7, num_learners=3, division='masks'))
    tables = [head.loss_of(learner).proxies for learner in (0, 1, 2, None)]
    assert len({id(table) for table in tables}) == 4 and all(table.shape == (5, 7) for table in tables)


def test_proxies_of_another_width_than_the_embedding_are_refused_when_the_model_is_built():
    model = dict(
        type='ImageEmbedder',
        backbone=dict(type='Conv4', channels=4),
        neck=dict(type='LinearEmbedding', in_channels=4, embed_dim=6),
        head=dict(type='EmbeddingHead', loss=dict(type='ProxyNCALoss', num_classes=5, embed_dim=7)),
    )
    with pytest.raises(ValueError, match=r'head\.loss\.embed_dim is 7, but neck\.embed_dim is 6'):
        MODELS.build(model)
