"""Another pooling's features, scaled to length 1."""

from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures.rows import unit_length

from .map_pooling import Features


@MODELS.register_module()
class UnitPooling(BaseModule):
    """Scale what another pooling returns to length 1, as features are saved; a zero row stays zero.

    A neck that was trained on saved features follows this pooling in a model for images.

    Args:
        pooling: config of the other pooling. Default: global average.

    Config::

        pooling=dict(type='UnitPooling', pooling=dict(type='GeneralizedMeanPooling'))
    """

    def __init__(self, pooling: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.pooling = MODELS.build(pooling or dict(type='GlobalAveragePooling'))

    def forward(self, features: Features) -> Tensor:
        """Features of the backbone -> ``(B, C)`` unit rows, fp32 or better."""
        pooled = self.pooling(features)
        return unit_length(pooled if pooled.dtype.itemsize >= 4 else pooled.float())
