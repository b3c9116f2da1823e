"""Models of timm by their names, with the pre-processing that their weights were trained for."""

from typing import Any

import torch
from mmengine.config import Config

from mmdml.models.backbones.timm_model import TimmModel


def timm_config(name: str, checkpoint: str | None = None) -> Config:
    """Return a config that embeds pictures with the features of a model of timm.

    The pipeline resizes the short edge to the input size over timm's crop share, or both edges where the weights were
    trained on squashed pictures, and crops the middle; mean and deviation are those of the weights.

    Args:
        name: as timm has it, e.g. ``vit_small_patch14_dinov2.lvd142m``.
        checkpoint: file of weights in timm's layout, in place of the ones from the network.

    Raises:
        ImportError: timm is not installed.
        ValueError: timm has no model of this name.
    """
    with torch.device('meta'):
        backbone = TimmModel(name)
    from timm.data import resolve_model_data_config

    data = resolve_model_data_config(backbone.timm_model)
    return Config(
        dict(
            default_scope='mmdml',
            model=dict(
                type='ImageEmbedder',
                data_preprocessor=dict(
                    mean=[255 * value for value in data['mean']],
                    std=[255 * value for value in data['std']],
                    to_rgb=True,
                ),
                backbone=dict(type='TimmModel', model_name=name, checkpoint=checkpoint),
                neck=dict(type='IdentityEmbedding', in_channels=backbone.out_channels),
            ),
            test_dataloader=dict(dataset=dict(pipeline=_pipeline(data))),
        )
    )


def _pipeline(data: dict[str, Any]) -> list[dict[str, Any]]:
    side = data['input_size'][-1]
    scale = int(side / data['crop_pct'])
    interpolation = data['interpolation'] if data['interpolation'] in ('bilinear', 'bicubic', 'nearest') else 'bicubic'
    if data['crop_mode'] == 'squash':
        resize = dict(type='mmpretrain.Resize', scale=(scale, scale))
    else:
        resize = dict(type='mmpretrain.ResizeEdge', scale=scale, edge='short')
    return [
        dict(type='LoadImageFromFile'),
        dict(**resize, backend='pillow', interpolation=interpolation),
        dict(type='mmpretrain.CenterCrop', crop_size=side),
        dict(type='mmpretrain.PackInputs'),
    ]
