"""No backbone: the inputs are features already."""

from mmengine.model import BaseModule
from torch import Tensor

from mmdml.registry import MODELS


@MODELS.register_module()
class Identity(BaseModule):
    """Pass features on that a frozen backbone made before, ``(B, C)``; the neck is all that trains.

    Config::

        data_preprocessor=dict(type='FeaturePreprocessor'),
        backbone=dict(type='Identity'),
        neck=dict(type='LinearEmbedding', in_channels=1280, embed_dim=512)
    """

    def forward(self, inputs: Tensor) -> tuple[Tensor]:
        """``(B, C)`` -> a tuple of one ``(B, C)``."""
        return (inputs,)
