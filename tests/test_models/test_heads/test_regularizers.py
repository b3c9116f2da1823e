"""Terms beside the loss, by name."""

import pytest
import torch
from mmengine.model import BaseModule

from mmdml.models import EmbeddingHead
from mmdml.models.necks import LinearEmbedding
from mmdml.registry import MODELS

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
