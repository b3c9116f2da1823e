"""Global pooling: feature maps to feature vectors."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdml.registry import MODELS
from mmdml.structures.checks import check_positive

Features = Tensor | Sequence[Tensor]


def last_stage(features: Features, pooling: str) -> Tensor:
    """Return the features of the last stage of a backbone.

    Raises:
        ValueError: the stage has several tensors.
    """
    last = features if isinstance(features, Tensor) else features[-1]
    if not isinstance(last, Tensor):
        shapes = ' and '.join(str(tuple(each.shape)) for each in last)
        raise ValueError(
            f'{pooling} takes one tensor, got those of shapes {shapes}, as a vision transformer with a distillation '
            'token gives them: a pooling of your own must choose or combine them'
        )
    return last


class GlobalPooling(BaseModule):
    """Base of the poolings.

    Backbones return the feature maps of several stages; the last one is pooled. A backbone that already returns vectors
    (a vision transformer's class token) passes through.
    """

    def forward(self, features: Features) -> Tensor:
        """``(B, C, H, W)`` or a sequence whose last entry is that -> ``(B, C)``; ``(B, C)`` stays.

        Raises:
            ValueError: for any other shape, or several tensors.
        """
        features = last_stage(features, type(self).__name__)
        if features.ndim == 2:
            return features
        if features.ndim != 4:
            raise ValueError(
                f'{type(self).__name__} takes feature maps (B, C, H, W) or vectors (B, C), got shape '
                f'{tuple(features.shape)}; tokens (B, L, C) need ClassTokenPooling or TokenAveragePooling'
            )
        return self.pool(features)

    def pool(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, C)``."""
        raise NotImplementedError


@MODELS.register_module()
class GlobalAveragePooling(GlobalPooling):
    """Mean over all positions (GAP).

    Config::

        pooling=dict(type='GlobalAveragePooling')
    """

    def pool(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3))


@MODELS.register_module()
class GlobalMaxPooling(GlobalPooling):
    """Maximum over all positions (GMP).

    Config::

        pooling=dict(type='GlobalMaxPooling')
    """

    def pool(self, maps: Tensor) -> Tensor:
        return maps.amax(dim=(2, 3))


@MODELS.register_module()
class GlobalAverageMaxPooling(GlobalPooling):
    """Sum of average and maximum (GAP + GMP), as IAA uses it with BN-Inception and ResNet-50.

    Config::

        pooling=dict(type='GlobalAverageMaxPooling')
    """

    def pool(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3)) + maps.amax(dim=(2, 3))


@MODELS.register_module()
class GeneralizedMeanPooling(GlobalPooling):
    """GeM of "Fine-tuning CNN Image Retrieval with No Human Annotation" (TPAMI 2018), Eq. 2.

    ``f_c = (mean over positions of max(x_c, eps)^p)^(1/p)``: p = 1 is the average, p -> infinity the maximum.

    Args:
        p: exponent, > 0.
        learnable: train ``p``.
        eps: lower clamp of the activations, > 0.

    Config::

        pooling=dict(type='GeneralizedMeanPooling', p=3.0)
    """

    def __init__(self, p: float = 3.0, learnable: bool = True, eps: float = 1e-6) -> None:
        super().__init__()
        check_positive(p=p, eps=eps)
        self.p = nn.Parameter(torch.tensor(float(p)), requires_grad=learnable)
        self.eps = eps

    def pool(self, maps: Tensor) -> Tensor:
        with torch.autocast(maps.device.type, enabled=False):
            maps = maps.to(torch.promote_types(maps.dtype, torch.float32)).clamp_min(self.eps)
            # Of shares of the largest value: 20^30 overflows fp32, and 0.01^30 is 0 there. Its factor cancels.
            largest = maps.detach().amax(dim=(2, 3), keepdim=True)
            mean = (maps / largest).pow(self.p).mean(dim=(2, 3)).pow(1 / self.p)
            return mean * largest[:, :, 0, 0]
