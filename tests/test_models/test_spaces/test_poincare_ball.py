"""Hyperbolic distances by other formulas, and a model that trains and is evaluated with them."""

import math

import pytest
import torch

from mmdml.models import EmbeddingHead, HyperbolicEmbedding, LinearEmbedding, PoincareBall
from mmdml.models.losses import MatryoshkaLoss, NTXentLoss
from mmdml.structures import PairBatch, Progress, Rows, StepContext

LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
STEP = StepContext(Progress(3, 100, 10))


def points(rows=6, dim=4, longest=0.8, seed=0):
    raw = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return raw / raw.norm(dim=1).max() * longest


def paper_distance(x, y, c):
    """By Möbius addition in the ball of radius 1 / sqrt(c): 2 / sqrt(c) artanh(sqrt(c) |-x + y|)."""
    dot, first, second = -(x @ y), x @ x, y @ y
    added = ((1 + 2 * c * dot + c * second) * -x + (1 - c * first) * y) / (1 + 2 * c * dot + c * c * first * second)
    return 2 / math.sqrt(c) * math.atanh(math.sqrt(c) * float(added.norm()))


@pytest.mark.parametrize('c', [0.1, 1.0, 2.5])
def test_distance_is_that_of_the_paper_in_the_ball_of_curvature_c(c):
    x, y = points(), points(3, seed=1)
    distance = PoincareBall(c).distance(PoincareBall(c).similarity(x, y))
    for i in range(6):
        for j in range(3):
            assert float(distance[i, j]) == pytest.approx(paper_distance(x[i] / c**0.5, y[j] / c**0.5, c), rel=1e-6)


@pytest.mark.parametrize('c, r', [(0.1, 2.3), (1.0, 1.0)])
def test_the_neck_maps_a_clipped_row_to_its_length_as_distance_from_the_center(c, r):
    neck = HyperbolicEmbedding(4, 4, curvature=c, clip_radius=r).double()
    raw = 2 * torch.randn(5, 4, dtype=torch.float64)
    ball = neck.unit(raw)
    for row, point in zip(raw, ball, strict=True):
        length = min(float(row.norm()), r)
        # The exponential map at the center doubles the length: its metric there is 4 |dz|^2.
        assert paper_distance(torch.zeros(4).double(), point / c**0.5, c) == pytest.approx(2 * length)
        torch.testing.assert_close(point / point.norm(), row / row.norm())
    assert (neck.unit(torch.zeros(1, 4)) == 0).all() and (ball.norm(dim=1) <= math.tanh(c**0.5 * r) + 1e-12).all()


def test_gradients_of_space_and_neck_are_those_of_their_values():
    ball, neck = PoincareBall(0.3), HyperbolicEmbedding(3, 3, curvature=0.3).double()

    def loss(raw):
        rows = Rows.of_batch(neck.unit(raw), LABELS[:4])
        return NTXentLoss(0.5)(PairBatch(rows, rows, space=ball))

    raw = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(loss, (raw,))


@pytest.mark.parametrize('fill', [0.0, 1.0, 100.0])
def test_equal_points_have_a_finite_gradient(fill):
    raw = torch.full((6, 4), fill).requires_grad_()
    neck = HyperbolicEmbedding(4, 4)
    rows = Rows.of_batch(neck.unit(raw), LABELS)
    NTXentLoss(0.2)(PairBatch(rows, rows, space=PoincareBall())).backward()
    assert torch.isfinite(raw.grad).all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('loss', ['NTXentLoss', 'TripletLoss', 'SupConLoss', 'MultiSimilarityLoss'])
def test_losses_train_in_the_ball_with_iaa_a_memory_and_reflections(loss, dtype):
    sources = dict(
        memory=dict(type='CrossBatchMemory', size=8, start=0),
        iaa=dict(type='IAAGenerator', onset=0.9),
        symmetrical=dict(type='SymmetricalSynthesis'),
    )
    head = EmbeddingHead(dict(type=loss), sources=sources, space=dict(type='PoincareBall'))
    neck = HyperbolicEmbedding(4, 4)
    head.bind(neck)
    raw = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for step in (0, 1):
        with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
            value = head.loss(raw.to(dtype), LABELS, None, neck, StepContext(Progress(step, 100, 10)))['loss']
        assert value.dtype == torch.float32
        value.backward()
    assert torch.isfinite(value) and torch.isfinite(raw.grad).all() and raw.grad.any()


def test_neck_and_space_must_agree():
    head = EmbeddingHead(dict(type='NTXentLoss'), space=dict(type='PoincareBall', curvature=0.2))
    with pytest.raises(ValueError, match='the neck must be HyperbolicEmbedding, not LinearEmbedding'):
        head.bind(LinearEmbedding(4, 4))
    with pytest.raises(ValueError, match='neck.curvature is 0.1, but that of the space is 0.2'):
        head.bind(HyperbolicEmbedding(4, 4))
    with pytest.raises(
        ValueError, match='HyperbolicEmbedding gives no unit vectors to take cosines of: set head.space'
    ):
        EmbeddingHead(dict(type='NTXentLoss')).bind(HyperbolicEmbedding(4, 4))
    with pytest.raises(ValueError, match='points inside the unit ball, of squared length below 1, got 1'):
        PoincareBall().similarity(torch.eye(2), torch.eye(2))
    for kind, name in ((HyperbolicEmbedding, 'clip_radius'), (HyperbolicEmbedding, 'curvature')):
        with pytest.raises(ValueError, match=f'{name} must be positive, got 0'):
            kind(4, 4, **{name: 0})
    with pytest.raises(ValueError, match='curvature must be positive, got -1'):
        PoincareBall(-1)
    with pytest.raises(ValueError, match='cannot tell from the rim of the ball: clip_radius must be at most 12'):
        HyperbolicEmbedding(4, 4, curvature=0.25, clip_radius=13)
    with pytest.raises(ValueError, match='MatryoshkaLoss compares by cosine and cannot use PoincareBall'):
        MatryoshkaLoss()(
            PairBatch(rows := Rows.of_batch(torch.zeros(2, 4), torch.arange(2)), rows, space=PoincareBall())
        )
