"""Pooling of transformer tokens: sequences ``(B, L, C)`` to feature vectors.

Transformers of mmpretrain return vectors or maps, which the poolings for maps take. Those of timm return their tokens.
"""

from mmengine.model import BaseModule
from torch import Tensor

from mmdml.registry import MODELS
from mmdml.utils.numbers import check_counts

from .map_pooling import Features, last_stage


class TokenPooling(BaseModule):
    """Base of the poolings of tokens; of several stages the last one is pooled.

    Tokens in a grid ``(B, H, W, C)`` look like feature maps ``(B, C, H, W)`` of a convolutional network. They are taken
    where no token comes before those of the patches, which a grid has no place for.
    """

    @property
    def takes_grids(self) -> bool:
        """Whether tokens may stand in a grid."""
        return False

    def forward(self, features: Features) -> Tensor:
        """``(B, L, C)``, some poolings also ``(B, H, W, C)``, or a sequence whose last entry is that -> ``(B, C)``.

        Raises:
            ValueError: for any other shape, or several tensors.
        """
        features = last_stage(features, type(self).__name__)
        if features.ndim == 4 and not self.takes_grids:
            raise ValueError(
                f'{type(self).__name__} takes tokens (B, L, C), got shape {tuple(features.shape)}: feature maps '
                '(B, C, H, W) need GlobalAveragePooling or its kin, tokens in a grid (B, H, W, C) '
                "dict(type='TokenAveragePooling', prefix_tokens=0)"
            )
        if features.ndim not in (3, 4):
            raise ValueError(f'{type(self).__name__} takes tokens (B, L, C), got shape {tuple(features.shape)}')
        return self.pool(features.flatten(1, -2))

    def pool(self, tokens: Tensor) -> Tensor:
        """``(B, L, C)`` -> ``(B, C)``."""
        raise NotImplementedError


@MODELS.register_module()
class ClassTokenPooling(TokenPooling):
    """The first token, which is the class token of ViT, DeiT and DINO.

    Config::

        backbone=dict(type='mmpretrain.TIMMBackbone', model_name='vit_small_patch16_224.dino', pretrained=True),
        pooling=dict(type='ClassTokenPooling')
    """

    def pool(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]


@MODELS.register_module()
class TokenAveragePooling(TokenPooling):
    """Mean over the tokens of the image's patches.

    Args:
        prefix_tokens: tokens before those of the patches (class token, registers), which are left out. 0 for
            transformers without, such as timm's Swin.

    Config::

        backbone=dict(type='mmpretrain.TIMMBackbone', model_name='swin_tiny_patch4_window7_224', pretrained=True),
        pooling=dict(type='TokenAveragePooling', prefix_tokens=0)
    """

    def __init__(self, prefix_tokens: int = 1) -> None:
        super().__init__()
        check_counts(0, prefix_tokens=prefix_tokens)
        self.prefix_tokens = prefix_tokens

    @property
    def takes_grids(self) -> bool:
        return self.prefix_tokens == 0

    def pool(self, tokens: Tensor) -> Tensor:
        if tokens.shape[1] <= self.prefix_tokens:
            raise ValueError(f'of {tokens.shape[1]} tokens, prefix_tokens={self.prefix_tokens} leave none to average')
        return tokens[:, self.prefix_tokens :].mean(dim=1)
