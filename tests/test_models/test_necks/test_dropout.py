"""Dropout on the pooled features, which both embedding layers offer alike."""

import pytest
import torch

from mmdml.registry import MODELS


@pytest.mark.parametrize(
    'extra', [dict(type='LinearEmbedding'), dict(type='DivideAndConquerEmbedding', num_learners=2)]
)
def test_dropout_acts_on_the_features_in_training_only(extra):
    torch.manual_seed(0)
    neck = MODELS.build(dict(in_channels=6, embed_dim=4, dropout=0.5, **extra))
    plain = MODELS.build(dict(in_channels=6, embed_dim=4, **extra))
    plain.load_state_dict(neck.state_dict())
    features = torch.ones(64, 6)
    assert torch.equal(neck.eval()(features), plain(features))
    outputs = neck.train()(features)
    # 64 equal rows come out different, and are right on average.
    assert len(outputs.unique(dim=0)) > 10
    torch.testing.assert_close(
        torch.stack([neck(features) for _ in range(200)]).mean((0, 1)), plain(features)[0], atol=0.1, rtol=0
    )
