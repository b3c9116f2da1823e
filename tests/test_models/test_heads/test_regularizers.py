"""Terms beside the loss, by name."""

import math

import pytest
import torch
import toy_openings  # noqa: F401
from mmengine.model import BaseModule

from mmdml.models import DivideAndConquerHead, EmbeddingHead
from mmdml.models.necks import DivideAndConquerEmbedding, HyperbolicEmbedding, IdentityEmbedding, LinearEmbedding
from mmdml.registry import MODELS
from mmdml.structures import PairBatch, Progress, Rows, StepContext

LABELS = torch.tensor([0, 0, 1, 1])
NECK = LinearEmbedding(2, 2)


@MODELS.register_module()
class MeanSquare(BaseModule):
    """A term of the raw rows."""

    def forward(self, rows, neck, step):
        return rows.embeddings.square().mean()


@MODELS.register_module()
class Silent(BaseModule):
    """A term that this step does not have."""

    def forward(self, rows, neck, step):
        return None


def head_with(**regularizers):
    return EmbeddingHead(dict(type='TripletLoss'), regularizers=regularizers)


def test_terms_are_added_by_name_with_their_weights_and_may_be_left_out():
    raw = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    head = head_with(size=dict(type='MeanSquare', weight=0.5), silent=dict(type='Silent', weight=1.0), off=None)
    losses = head.loss(raw, LABELS, None, NECK)
    assert set(losses) == {'loss', 'loss_size'}
    torch.testing.assert_close(losses['loss_size'], 0.5 * raw.square().mean())
    assert torch.equal(losses['loss'], head_with().loss(raw, LABELS, None, NECK)['loss'])
    losses['loss_size'].backward()
    torch.testing.assert_close(raw.grad, 0.5 * 2 * raw.detach() / 8)


def test_weights_are_required_and_not_negative():
    with pytest.raises(ValueError, match=r'regularizers.size.weight must be >= 0, got -1'):
        head_with(size=dict(type='MeanSquare', weight=-1))
    with pytest.raises(ValueError, match="regularizers.size needs a 'weight'"):
        head_with(size=dict(type='MeanSquare'))


# ---- the terms -------------------------------------------------------------------------------------------------------

WIDE = LinearEmbedding(3, 3)
TERMS = dict(
    tcm=dict(type='LossTerm', loss=dict(type='TCMLoss')),
    norm=dict(type='EmbeddingNorm'),
    koleo=dict(type='KoLeo'),
    antico=dict(type='AntiCollapse'),
    spread=dict(type='CrossBatchSpread', size=5, embed_dim=3),
)
each_term = pytest.mark.parametrize('name', TERMS)


def rows_of(raw, labels=LABELS):
    return Rows.of_batch(raw, labels)


def raw_rows(rows=4, seed=0, dtype=torch.float64):
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def units(raw):
    return [[x / math.hypot(*row) for x in row] for row in raw.tolist()]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_loss_term_is_the_loss_of_the_real_rows():
    raw = raw_rows()
    term = MODELS.build(TERMS['tcm'])(rows_of(raw), WIDE, None)
    pairs = PairBatch.from_embeddings(torch.nn.functional.normalize(raw), LABELS)
    torch.testing.assert_close(term, MODELS.build(dict(type='TCMLoss'))(pairs))
    with pytest.raises(TypeError, match='LossTerm takes a loss over pairs, got ProxyNCALoss'):
        MODELS.build(dict(type='LossTerm', loss=dict(type='ProxyNCALoss', num_classes=2, embed_dim=3)))


def test_embedding_norm_and_koleo_by_a_loop():
    raw = raw_rows()
    expected = sum(x * x for row in raw.tolist() for x in row) / 4
    assert float(MODELS.build(TERMS['norm'])(rows_of(raw), WIDE, None).detach()) == pytest.approx(expected)
    unit = units(raw)
    nearest = [min(math.dist(a, b) for j, b in enumerate(unit) if j != i) for i, a in enumerate(unit)]
    expected = -sum(math.log(d) for d in nearest) / 4
    assert float(MODELS.build(TERMS['koleo'])(rows_of(raw), WIDE, None).detach()) == pytest.approx(expected)


@pytest.mark.parametrize('rows', [2, 4])
def test_anti_collapse_is_one_over_the_root_of_the_determinant_for_few_and_many_rows(rows):
    raw = raw_rows(rows)
    unit = torch.nn.functional.normalize(raw.detach())
    matrix = torch.eye(3, dtype=torch.float64) + 3 / (rows * 0.5) * unit.t() @ unit
    term = MODELS.build(TERMS['antico'])(rows_of(raw, LABELS[:rows]), WIDE, None)
    torch.testing.assert_close(term, torch.linalg.det(matrix).rsqrt())
    line = MODELS.build(TERMS['antico'])(rows_of(raw[:1].expand(rows, 3), LABELS[:rows]), WIDE, None)
    # All rows equal: one eigenvalue of the product, the number of rows.
    assert float(line.detach()) == pytest.approx((1 + 3 / 0.5) ** -0.5) and line > term
    with pytest.raises(ValueError, match='epsilon must be positive, got 0'):
        MODELS.build(dict(type='AntiCollapse', epsilon=0))


def test_cross_batch_spread_by_a_loop_over_rows_of_two_batches():
    term = MODELS.build(TERMS['spread']).double()
    first, second = raw_rows(seed=1), raw_rows(seed=2)
    labels = torch.tensor([0, 1, 2, 2])
    term(rows_of(first, labels), WIDE, None)
    value = term(rows_of(second), WIDE, None)
    everything = list(zip(units(second) + units(first), LABELS.tolist() + labels.tolist(), strict=True))
    cosines = [dot(a, b) for a, y in everything[:4] for b, z in everything if y != z]
    expected = (sum(cosines) / len(cosines)) ** 2 + max(sum(s * s for s in cosines) / len(cosines) - 1 / 3, 0)
    assert float(value.detach()) == pytest.approx(expected)
    # The newest rows first, and only as many as fit; evaluation remembers nothing.
    torch.testing.assert_close(term.rows, torch.cat([second, first[:1]]).detach())
    assert term.labels.tolist() == [*LABELS.tolist(), 0]
    term.eval()(rows_of(first), WIDE, None)
    assert term.labels.tolist() == [*LABELS.tolist(), 0] and set(term.state_dict()) == {'rows', 'labels'}
    with pytest.raises(ValueError, match='size must be an integer of at least 0, got -1'):
        MODELS.build(dict(type='CrossBatchSpread', size=-1, embed_dim=3))


@each_term
def test_the_gradient_of_a_term_is_that_of_its_value(name):
    term = MODELS.build(TERMS[name]).double()
    if name == 'spread':
        term(rows_of(raw_rows(seed=1)), WIDE, None)
        term.eval()
    assert torch.autograd.gradcheck(lambda raw: term(rows_of(raw), WIDE, None), raw_rows())


@each_term
@pytest.mark.parametrize('labels', [[0, 1], [2, 2], [1], []], ids=str)
@pytest.mark.parametrize('fill', [None, 0.0, 1.0], ids=['random', 'zero', 'equal'])
def test_a_term_of_a_degenerate_batch_is_finite_and_so_is_its_gradient(name, labels, fill):
    raw = raw_rows(len(labels), dtype=torch.float32)
    if fill is not None:
        raw = torch.full_like(raw, fill).requires_grad_()
    value = MODELS.build(TERMS[name])(rows_of(raw, torch.tensor(labels, dtype=torch.int64)), WIDE, None)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(raw.grad).all()


@each_term
def test_a_term_trains_inside_learners_and_beside_synthetic_rows(name):
    """It sees the real rows alone, as wide as the learner that the step trains."""
    neck = DivideAndConquerEmbedding(in_channels=5, embed_dim=8, num_learners=4)
    torch.manual_seed(0)
    head = DivideAndConquerHead(
        dict(type='ContrastiveLoss'),
        regularizers=dict(term=dict({**TERMS[name], **({'embed_dim': 8} if name == 'spread' else {})}, weight=1.0)),
    )
    head.bind(neck)
    neck.divide(4)
    features = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    for learner in (0, 3, None):
        step = StepContext(Progress(1, 10, 5), None if learner is None else neck.active(learner))
        raw = neck(features, learner)
        value = head.loss(raw, LABELS, torch.arange(4), neck, step)['loss_term']
        (gradient,) = torch.autograd.grad(value, raw)
        assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ('place', 'part'),
    [
        ('regularizers', dict(type='KoLeo', weight=1.0)),
        ('regularizers', dict(type='AntiCollapse', weight=1.0)),
        ('regularizers', dict(type='CrossBatchSpread', size=4, embed_dim=4, weight=1.0)),
        ('regularizers', dict(type='LossTerm', loss=dict(type='TCMLoss'), weight=1.0)),
        ('distillations', dict(type='S2SD', in_channels=4, dims=(4,))),
        ('distillations', dict(type='MeanTeacher')),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else value,
)
def test_terms_of_unit_vectors_refuse_points_of_another_space(place, part):
    head = EmbeddingHead(dict(type='NTXentLoss'), space=dict(type='PoincareBall'), **{place: dict(part=part)})
    with pytest.raises(ValueError, match=f'{part["type"]} compares unit vectors, but HyperbolicEmbedding gives none'):
        head.bind(HyperbolicEmbedding(4, 4))


def test_parts_of_another_width_are_refused_when_the_model_is_built():
    loss, neck = dict(type='NTXentLoss'), LinearEmbedding(5, 4)
    spread = dict(type='CrossBatchSpread', size=4, embed_dim=3, weight=1.0)
    with pytest.raises(ValueError, match=r'CrossBatchSpread\.embed_dim is 3, but neck\.embed_dim is 4'):
        EmbeddingHead(loss, regularizers=dict(spread=spread)).bind(neck)
    prior = dict(type='FlowPrior', num_classes=2, embed_dim=3)
    with pytest.raises(ValueError, match=r'FlowPrior\.embed_dim is 3, but neck\.embed_dim is 4'):
        EmbeddingHead(loss, sources=dict(prior=prior)).bind(neck)
    with pytest.raises(ValueError, match=r'S2SD\.in_channels is 4, but neck\.in_channels is 5'):
        EmbeddingHead(loss, distillations=dict(s2sd=dict(type='S2SD', in_channels=4, dims=(4,)))).bind(neck)


def test_rules_of_the_head_about_pairs_hold_for_a_loss_term_and_in_the_spaces_of_s2sd():
    loss, raw = dict(type='TCMLoss'), torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    table = [[1, 0], [0, 1], [1, 0], [0, 1]]  # positives are 0 and 2, 1 and 3
    s2sd = dict(type='S2SD', in_channels=8, dims=(8,), loss=loss, feature_weight=0)
    values = set()
    for options, indices in (
        ({}, [0, 1, 2, 3]),
        (dict(targets=dict(type='ToyLabelSets', table=table)), [0, 1, 2, 3]),
        (dict(exclude_same_image=True), [5, 5, 7, 8]),
    ):
        head = EmbeddingHead(
            loss,
            regularizers=dict(same=dict(type='LossTerm', loss=loss, weight=1.0)),
            distillations=dict(s2sd=s2sd),
            **options,
        )
        neck = IdentityEmbedding(8)
        head.bind(neck)
        head.distillations['s2sd'].spaces[0] = torch.nn.Identity()
        losses = head.loss(raw, LABELS, torch.tensor(indices), neck, features=raw)
        torch.testing.assert_close(losses['loss_same'], losses['loss'])
        torch.testing.assert_close(losses['loss_s2sd_spaces'], losses['loss'])
        values.add(round(losses['loss'].item(), 4))
    assert len(values) == 3


def test_the_dimensions_of_a_masked_learner_are_those_that_its_mask_leaves():
    neck = DivideAndConquerEmbedding(8, 64, num_learners=8, division='masks', learned=False)
    neck.divide(8)
    raw = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))
    rows = Rows.of_batch(raw, torch.arange(2000))
    step = StepContext(Progress(0, 10, 5), neck.active(0))
    term = MODELS.build(dict(type='CrossBatchSpread', size=0, embed_dim=64))
    # Points that are uniform on the sphere of the learner.
    assert term(rows, neck, step).item() < 0.01 and term(rows, neck, None).item() < 0.01
    masked = MODELS.build(dict(type='AntiCollapse'))(rows, neck, step)
    own = neck.unit(raw, 0)
    cut = Rows.of_batch(own[:, (own != 0).any(0)], rows.labels)
    torch.testing.assert_close(masked, MODELS.build(dict(type='AntiCollapse'))(cut, IdentityEmbedding(cut.width), None))
