"""timm's models as backbones, through mmpretrain's wrapper: each kind of output with the pooling that is for it."""

import time

import pytest
import timm
import torch
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample

from mmdml.models import ImageEmbedder
from mmdml.registry import MODELS

# timm's own tiny models of each family, the width of their features, and what pools them.
KINDS = {
    'test_resnet': (96, 'GlobalAveragePooling'),
    'test_efficientnet': (256, 'GlobalAveragePooling'),
    'test_convnext': (64, 'GlobalAveragePooling'),
    'test_vit': (64, 'ClassTokenPooling'),
    'test_vit2': (64, 'TokenAveragePooling'),
}


def build(name: str, **backbone) -> ImageEmbedder:
    init_default_scope('mmdml')
    width, pooling = KINDS[name]
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='ImageEmbedder',
            data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
            backbone=dict(type='mmpretrain.TIMMBackbone', model_name=name, **backbone),
            pooling=dict(type=pooling),
            neck=dict(type='LinearEmbedding', in_channels=width, embed_dim=16),
            head=dict(type='EmbeddingHead', loss=dict(type='MultiSimilarityLoss')),
        )
    )


@pytest.mark.parametrize('name', KINDS)
def test_a_model_of_timm_embeds_and_learns(name):
    model = build(name)
    pictures = torch.randint(0, 256, (4, 3, 160, 160), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(label) for label in (0, 0, 1, 1)]
    losses = model(**model.data_preprocessor(dict(inputs=pictures, data_samples=samples), training=True), mode='loss')
    losses['loss'].backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.backbone.parameters() if weight.grad is not None)
    assert sum(float(weight.grad.abs().sum()) for weight in model.backbone.parameters() if weight.grad is not None) > 0
    model.eval()
    with torch.no_grad():
        assert model(pictures.float()).shape == (4, 16)


def test_without_network_weights_come_from_the_cache_at_once_or_the_error_says_so(monkeypatch, tmp_path):
    from huggingface_hub import constants
    from safetensors.torch import save_file

    monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:9')
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr(time, 'sleep', lambda seconds: pytest.fail('the hub is tried again'))
    model = MODELS.build(dict(type='mmdml.TimmModel', model_name='test_vit'))
    with pytest.raises(RuntimeError, match=r'not in the cache, and http://127.0.0.1:9 does not answer.*timm/test_vit:'):
        model.init_weights()
    snapshot = tmp_path / 'models--timm--test_vit.r160_in1k/snapshots' / ('0' * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / 'refs').mkdir()
    (snapshot.parents[1] / 'refs/main').write_text(snapshot.name)
    weights = timm.create_model('test_vit').state_dict()
    save_file(weights, snapshot / 'model.safetensors')
    model.init_weights()
    loaded = model.timm_model.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in loaded.items()) and not constants.HF_HUB_OFFLINE


def test_features_are_those_of_timm():
    model = build('test_vit').eval()
    own = timm.create_model('test_vit', num_classes=0)
    own.load_state_dict({key.removeprefix('timm_model.'): value for key, value in model.backbone.state_dict().items()})
    pictures = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        expected = own.eval().forward_features(pictures)[:, 0]
        torch.testing.assert_close(model.pooling(model.backbone(pictures)), expected)
