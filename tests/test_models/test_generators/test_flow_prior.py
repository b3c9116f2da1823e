"""The learned prior: an exact density, invertible, fitted to the rows, and samples that are of their class."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from mmdml.models import EmbeddingHead
from mmdml.models.generators import FlowPrior
from mmdml.models.necks import LinearEmbedding
from mmdml.registry import MODELS
from mmdml.structures import Progress, Rows, StepContext

LABELS = torch.tensor([0, 0, 1, 1])


def random_flow(width=3, classes=2, layers=3):
    torch.manual_seed(0)
    flow = FlowPrior(classes, width, num_layers=layers, hidden=5).double()
    for parameter in flow.parameters():
        parameter.data = 0.4 * torch.randn_like(parameter)
    return flow


def mapped(flow, rows):
    for layer in flow.layers:
        rows = layer(rows)[0]
    return rows


@pytest.mark.parametrize('width', [2, 3, 8])
def test_the_inverse_undoes_the_flow(width):
    flow = random_flow(width)
    rows = torch.randn(6, width, dtype=torch.float64)
    back = mapped(flow, rows)
    for layer in reversed(flow.layers):
        back = layer.inverse(back)
    torch.testing.assert_close(back, rows)
    assert (mapped(flow, rows) - rows).abs().min() > 1e-3  # Every neuron is moved.


def test_the_likelihood_is_that_of_a_gaussian_times_the_jacobian():
    flow, rows = random_flow(), torch.randn(4, 3, dtype=torch.float64)
    total = 0.0
    for row, label in zip(rows, LABELS, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x: mapped(flow, x[None])[0], row)
        latent = mapped(flow, row[None])[0]
        squared = float((latent - flow.means[label]).square().sum().detach())
        total += -squared / 2 - 1.5 * math.log(2 * math.pi) + math.log(abs(float(torch.det(jacobian))))
    assert float(flow.negative_log_likelihood(rows, LABELS).detach()) == pytest.approx(-total / 4 / 3, rel=1e-9)


def test_at_first_the_flow_is_the_identity():
    rows = torch.randn(4, 6)
    assert torch.equal(mapped(FlowPrior(2, 6), rows), rows)


def test_it_learns_where_classes_lie_and_its_samples_lie_there():
    random = torch.Generator().manual_seed(0)
    centers = normalize(torch.randn(3, 8, generator=random))
    labels = torch.arange(60) % 3
    raw = 5 * normalize(centers[labels] + 0.15 * torch.randn(60, 8, generator=random))
    torch.manual_seed(0)
    head = EmbeddingHead(
        dict(type='TripletLoss'),
        sources=dict(prior=dict(type='FlowPrior', num_classes=3, embed_dim=8, hidden=32, onset=0.5)),
    )
    flow, neck = head.sources['prior'], LinearEmbedding(4, 8)
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.02)
    values = []
    for step in range(120):
        losses = head.loss(raw, labels, None, neck, StepContext(Progress(step, 240, 10)))
        optimizer.zero_grad()
        losses['loss_prior'].backward()
        optimizer.step()
        values.append(losses['loss_prior'].item())
    assert values[-1] < values[0] - 0.5
    step = StepContext(Progress(239, 240, 10))
    made = flow(Rows.of_batch(raw, labels), step)
    assert ((normalize(made.embeddings) @ centers.t()).argmax(1) == made.labels).float().mean() > 0.95
    assert made.embeddings.norm(dim=1).mean() == pytest.approx(5, rel=0.3)
    # No two samples of a class are equal.
    assert len(made.embeddings.unique(dim=0)) == 60


def test_there_are_samples_from_the_onset_on_and_no_gradient_between_flow_and_embeddings():
    flow = random_flow().float()
    flow.onset = 0.5
    raw = torch.randn(4, 3).requires_grad_()
    assert flow(Rows.of_batch(raw, LABELS), StepContext(Progress(49, 100, 10))) is None
    assert flow.own_loss().requires_grad and flow.own_loss() is None
    made = flow(Rows.of_batch(raw, LABELS), StepContext(Progress(50, 100, 10)))
    assert not made.embeddings.requires_grad and torch.equal(made.labels, LABELS)
    flow.own_loss().backward()
    assert raw.grad is None and all(parameter.grad.any() for parameter in flow.parameters())


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(embed_dim=1), 'embed_dim must be an integer of at least 2, got 1'),
        (dict(num_layers=1), 'num_layers must be an integer of at least 2, got 1'),
        (dict(num_samples=0), 'num_samples must be an integer of at least 1, got 0'),
        (dict(temperature=0), 'temperature must be positive, got 0'),
        (dict(num_samples='2'), "num_samples must be an integer of at least 1, got '2'"),
        (dict(temperature='0.5'), "temperature must be a number, got '0.5'"),
        (dict(onset='0.1'), "onset must be a number, got '0.1'"),
        (dict(onset=1.5), 'onset must be epochs'),
        (dict(onset=float('nan')), 'onset must be a number, got nan'),
    ],
)
def test_bad_options_name_what_would_be_right(options, words):
    with pytest.raises(ValueError, match=words):
        MODELS.build({**dict(type='FlowPrior', num_classes=2, embed_dim=4), **options})


def test_a_label_without_a_density_is_named():
    with pytest.raises(ValueError, match=r'FlowPrior has num_classes=2, so labels must lie in 0\.\.1, got 3'):
        random_flow()(Rows.of_batch(torch.randn(2, 3), torch.tensor([0, 3])), StepContext(Progress(0, 10, 5)))
