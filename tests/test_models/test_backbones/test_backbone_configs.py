"""The backbones of ``configs/_base_/models`` and those of mmpretrain, whole: pictures in, loss and embeddings out."""

from pathlib import Path

import pytest
import torch
from config_checks import without_pretrained_weights
from mmengine.config import Config
from mmpretrain.structures import DataSample

from mmdml.models.backbones import Identity
from mmdml.registry import MODELS

MODELS_OF_CONFIGS = sorted((Path(__file__).parents[3] / 'configs/_base_/models').glob('*.py'))
# With this margin no triplet is ever far enough apart: there always is a gradient.
LOSS = dict(type='TripletLoss', margin=2.0)
TINY = {
    'vit class token': (
        dict(
            type='mmpretrain.VisionTransformer',
            arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32),
            img_size=64,
            out_type='cls_token',
        ),
        dict(type='GlobalAveragePooling'),
        16,
    ),
    'vit map': (
        dict(
            type='mmpretrain.VisionTransformer',
            arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32),
            img_size=64,
            out_type='featmap',
        ),
        dict(type='GeneralizedMeanPooling'),
        16,
    ),
    'vit tokens': (
        dict(
            type='mmpretrain.VisionTransformer',
            arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32),
            img_size=64,
            out_type='raw',
        ),
        dict(type='TokenAveragePooling', prefix_tokens=1),
        16,
    ),
    'convnext': (
        dict(type='mmpretrain.ConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[4, 6, 8, 10])),
        dict(type='GlobalAveragePooling'),
        10,
    ),
    'convnext map': (
        dict(
            type='mmpretrain.ConvNeXt',
            arch=dict(depths=[1, 1, 1, 1], channels=[4, 6, 8, 10]),
            gap_before_final_norm=False,
        ),
        dict(type='GlobalMaxPooling'),
        10,
    ),
    'swin': (
        dict(
            type='mmpretrain.SwinTransformer',
            arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
            img_size=64,
            window_size=2,
        ),
        dict(type='GlobalAveragePooling'),
        64,
    ),
}


def loss_and_prediction(model):
    """One step on four pictures of two classes as they come from a data loader, then the embeddings."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(model.backbone, Identity):
        pictures = torch.randn(4, model.neck.in_channels, generator=generator)
    else:
        channels = len(model.data_preprocessor.mean)
        pictures = torch.randint(0, 256, (4, channels, 64, 64), generator=generator, dtype=torch.uint8)
    samples = [DataSample(metainfo=dict(sample_idx=i)).set_gt_label(i // 2) for i in range(4)]
    batch = model.data_preprocessor(dict(inputs=pictures, data_samples=samples), training=True)
    loss = model.train()(**batch, mode='loss')['loss']
    loss.backward()
    model.eval()
    with torch.no_grad():
        embeddings = torch.stack([sample.embedding for sample in model(**batch, mode='predict')])
    return loss, embeddings


def assert_trains(model, embed_dim):
    loss, embeddings = loss_and_prediction(model)
    assert torch.isfinite(loss) and loss > 0
    trained = model.neck if isinstance(model.backbone, Identity) else model.backbone
    assert sum(p.grad.abs().sum() for p in trained.parameters() if p.grad is not None) > 0
    assert embeddings.shape == (4, embed_dim)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize('config', MODELS_OF_CONFIGS, ids=lambda path: path.stem)
def test_every_base_model_scores_a_batch_with_random_weights(config):
    torch.manual_seed(0)
    model = Config.fromfile(str(config)).model
    without_pretrained_weights(model)
    model.head.loss = LOSS
    built = MODELS.build(model)
    # Layer scales start at 1e-5: without pre-trained weights all pictures are embedded alike but for rounding.
    for name, parameter in built.named_parameters():
        if name.endswith('.gamma'):
            torch.nn.init.ones_(parameter)
    # A residual neck is as wide as its features.
    assert_trains(built, model.neck.get('embed_dim', model.neck.in_channels))


@pytest.mark.parametrize(('backbone', 'pooling', 'channels'), TINY.values(), ids=list(TINY))
def test_transformers_and_convnext_of_mmpretrain_compose(backbone, pooling, channels):
    torch.manual_seed(0)
    model = dict(
        type='ImageEmbedder',
        data_preprocessor=dict(mean=[127.0] * 3, std=[64.0] * 3),
        backbone=backbone,
        pooling=pooling,
        neck=dict(type='LinearEmbedding', in_channels=channels, embed_dim=5),
        head=dict(type='EmbeddingHead', loss=LOSS),
    )
    assert_trains(MODELS.build(model), 5)


def test_bn_inception_gets_its_pictures_in_bgr_and_the_others_in_rgb():
    blue = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 32, 32)  # OpenCV's order

    def preprocessed(name):
        config = next(path for path in MODELS_OF_CONFIGS if path.stem == name)
        model = MODELS.build({'backbone': dict(type='Conv4'), **_preprocessor_only(Config.fromfile(str(config)).model)})
        return model.data_preprocessor(dict(inputs=blue))['inputs'][0, :, 0, 0].tolist()

    assert preprocessed('bninception') == [255 - 104, -117, -128]
    assert preprocessed('googlenet') == pytest.approx([-123.675 / 58.395, -116.28 / 57.12, (255 - 103.53) / 57.375])
    assert preprocessed('efficientnet-lite0') == [-127 / 128, -127 / 128, 1]


def _preprocessor_only(model):
    return dict(type=model.type, data_preprocessor=model.data_preprocessor, neck=model.neck)


def test_googlenet_configs_differ_in_the_input_alone():
    torchvision_way, iaa_way = (
        Config.fromfile(str(path)).model.to_dict() for path in MODELS_OF_CONFIGS if path.stem.startswith('googlenet')
    )
    assert torchvision_way['backbone'].pop('transform_input') is True
    assert iaa_way['backbone'].pop('transform_input') is False
    assert torchvision_way == iaa_way
