"""Features of a frozen backbone, and the model of that backbone with a neck that was trained on them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from mmdml.apis.model_folder import embedding_weights
from mmdml.apis.models import get_config, get_model
from mmdml.apis.torch_embedder import TorchEmbedder
from mmdml.utils.files import replaced_when_whole


def frozen_model(config: str | Path, options: dict[str, Any] | None = None) -> Config:
    """Return the model of a config without an embedding layer: its pooled features are the embedding.

    Args:
        config: file.
        options: settings of it, by dotted key.
    """
    whole = Config.fromfile(config)
    whole.merge_from_dict(options or {})
    model = whole.model
    model.neck = dict(type='IdentityEmbedding', in_channels=model.neck.in_channels)
    model.head = None
    return Config(dict(model=model))


def feature_pipeline(size: int) -> list[dict[str, Any]]:
    """Return the transforms of the features: the whole image, in ``size x size`` pixels."""
    return [
        dict(type='LoadImageFromFile'),
        dict(type='mmpretrain.Resize', scale=(size, size), backend='pillow', interpolation='bilinear'),
        dict(type='mmpretrain.PackInputs'),
    ]


def join_backbone(config: str | Path, model: str, features: str | Path, size: int, target: str | Path) -> Path:
    """Write a backbone and a neck that was trained on its features as one model that takes pictures.

    Args:
        config: with the model that made the features.
        model: that was trained on them, as ``CONFIG:CHECKPOINT``.
        features: file that it was trained on, for the hash of what made them.
        size: pixels of both sides that images were resized to.
        target: file of weights to write, ``.pth``; the config is written beside it.

    Returns:
        The path of the config.

    Raises:
        ValueError: the features were made by something else; what ``get_model`` raises.
    """
    trained = get_model(model, True, head=None)
    source = TorchEmbedder(frozen_model(config), False, feature_pipeline(size), 'cpu')
    with np.load(features, allow_pickle=False) as file:
        made_by = str(file['model_hash']) if 'model_hash' in file else 'unknown'
    if made_by != source.model_hash:
        raise ValueError(
            f'{features} was made by the model {made_by[:8]}, {config} at {size} pixels is {source.model_hash[:8]}: '
            'name the config and size that the features were extracted with'
        )
    layers = Config.fromfile(config).model
    layers.pop('head', None)
    layers.backbone.pop('init_cfg', None)
    layers.pooling = dict(type='UnitPooling', pooling=layers.get('pooling') or dict(type='GlobalAveragePooling'))
    layers.neck = get_config(model).model.neck
    weights = {
        f'pooling.{name}' if name.startswith('pooling.') else name: value
        for name, value in embedding_weights(source.model).items()
    }
    weights.update({name: value for name, value in embedding_weights(trained).items() if name.startswith('neck.')})
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replaced_when_whole(target) as beside:
        torch.save({'state_dict': {name: value.cpu().clone() for name, value in weights.items()}}, beside)
    dataset = dict(pipeline=feature_pipeline(size))
    joined = Config(dict(default_scope='mmdml', model=layers, test_dataloader=dict(dataset=dataset)))
    joined.dump(target.with_suffix('.py'))
    return target.with_suffix('.py')
