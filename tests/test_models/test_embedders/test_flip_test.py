"""Flip test-time augmentation of ImageEmbedder."""

import pytest
import torch

from mmdml.models import ImageEmbedder
from mmdml.registry import MODELS

PARTS = dict(backbone=dict(type='Conv4', channels=8), neck=dict(type='LinearEmbedding', in_channels=8, embed_dim=5))


def predict(model, inputs):
    return torch.stack([sample.embedding for sample in model(inputs, mode='predict')])


def test_predictions_are_the_unit_mean_of_picture_and_mirror_and_do_not_change_if_mirrored():
    torch.manual_seed(0)
    inputs = torch.randn(4, 1, 28, 28)
    plain = ImageEmbedder(**PARTS).eval()
    flipping = ImageEmbedder(**PARTS, flip_test=True).eval()
    flipping.load_state_dict(plain.state_dict())
    with torch.no_grad():
        mean = (predict(plain, inputs) + predict(plain, torch.flip(inputs, [3]))) / 2
        found = predict(flipping, inputs)
        torch.testing.assert_close(found, mean / mean.norm(dim=1, keepdim=True))
        torch.testing.assert_close(predict(flipping, torch.flip(inputs, [3])), found)
        assert (found - predict(plain, inputs)).abs().max() > 1e-3
        # Training and index building see what they are given.
        torch.testing.assert_close(flipping(inputs), plain(inputs))


def test_points_of_a_ball_have_no_mean_of_two():
    neck = dict(type='HyperbolicEmbedding', in_channels=8, embed_dim=5)
    with pytest.raises(ValueError, match='flip_test compares unit vectors, but HyperbolicEmbedding gives none'):
        ImageEmbedder(backbone=PARTS['backbone'], neck=neck, flip_test=True)


def test_saved_features_have_no_mirror_image():
    model = MODELS.build(
        dict(
            type='ImageEmbedder',
            data_preprocessor=dict(type='FeaturePreprocessor'),
            backbone=dict(type='Identity'),
            neck=dict(type='LinearEmbedding', in_channels=5, embed_dim=3),
            flip_test=True,
        )
    ).eval()
    with pytest.raises(ValueError, match=r'flip_test mirrors images \(B, C, H, W\), got inputs of shape \(2, 5\)'):
        model.embed(torch.randn(2, 5))
