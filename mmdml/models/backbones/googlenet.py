"""GoogLeNet, with the parameter names of torchvision's weights."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from mmdml.registry import MODELS

from .without_classifier import WithoutClassifier

#: Widths by block (paper, Table 1): 1x1; reduction and 3x3; reduction and "5x5"; projection after the pooling.
_INCEPTIONS = {
    'inception3a': (64, 96, 128, 16, 32, 32),
    'inception3b': (128, 128, 192, 32, 96, 64),
    'inception4a': (192, 96, 208, 16, 48, 64),
    'inception4b': (160, 112, 224, 24, 64, 64),
    'inception4c': (128, 128, 256, 24, 64, 64),
    'inception4d': (112, 144, 288, 32, 64, 64),
    'inception4e': (256, 160, 320, 32, 128, 128),
    'inception5a': (256, 160, 320, 32, 128, 128),
    'inception5b': (384, 192, 384, 48, 128, 128),
}
#: Poolings by the block they follow: name and kernel.
_POOLED_AFTER = {'inception3b': ('maxpool3', 3), 'inception4e': ('maxpool4', 2)}


@MODELS.register_module()
class GoogLeNet(WithoutClassifier):
    """GoogLeNet with batch norm (CVPR 2015, arXiv 1409.4842), without classifier and auxiliary heads.

    The layers of torchvision's network under torchvision's names: its public weights load as they are, and the maps are
    the same. Two things differ from the paper: the batch norms, and 3x3 kernels in the place of 5x5.

    Args:
        transform_input: Take images normalized by ImageNet's mean and deviation over to the range of the public
            weights, (x - 0.5) / 0.5. torchvision does so with these weights (True). The release of IAA does not, and
            its figures were trained like that (False). Without a default, since both are in use.
        init_cfg: MMEngine's initialization config, e.g. ``dict(type='Pretrained', checkpoint='torchvision://googlenet')``.

    Config::

        backbone=dict(type='GoogLeNet', transform_input=True)
    """

    classifier = ('fc', 'aux1', 'aux2')

    def __init__(self, transform_input: bool, init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(init_cfg)
        self.transform_input = transform_input
        # x std + mean is the image in [0, 1], which (v - 0.5) / 0.5 takes to [-1, 1]. In double precision, since the
        # shift is a difference of near numbers.
        mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(3, 1, 1)
        self.register_buffer('input_scale', (std / 0.5).float(), persistent=False)
        self.register_buffer('input_shift', ((mean - 0.5) / 0.5).float(), persistent=False)

        self.conv1 = _unit(3, 64, 7, stride=2)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = _unit(64, 64, 1)
        self.conv3 = _unit(64, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        channels = 192
        for name, widths in _INCEPTIONS.items():
            block = _Inception(channels, *widths)
            self.add_module(name, block)
            channels = block.channels
            if name in _POOLED_AFTER:
                pooling, kernel_size = _POOLED_AFTER[name]
                self.add_module(pooling, nn.MaxPool2d(kernel_size, stride=2, ceil_mode=True))

    def forward(self, inputs: Tensor) -> tuple[Tensor]:
        """``(B, 3, H, W)``, RGB by ImageNet's mean and deviation -> a tuple of one map ``(B, 1024, H / 32, W / 32)``.

        Raises:
            ValueError: for images under 15 pixels, of which nothing would be left.
        """
        if min(inputs.shape[-2:]) < 15:
            raise ValueError(f'GoogLeNet needs pictures of at least 15x15 pixels, got {tuple(inputs.shape[-2:])}')
        maps = inputs * self.input_scale + self.input_shift if self.transform_input else inputs
        for layer in self.children():  # in the order of their making
            maps = layer(maps)
        return (maps,)


class _Inception(nn.Module):
    """Four branches side by side; widths as in the table above."""

    def __init__(
        self, in_channels: int, single: int, reduce3: int, width3: int, reduce5: int, width5: int, projection: int
    ) -> None:
        super().__init__()
        self.branch1 = _unit(in_channels, single, 1)
        self.branch2 = nn.Sequential(_unit(in_channels, reduce3, 1), _unit(reduce3, width3, 3))
        # The public weights hold 3x3 kernels where the paper has 5x5.
        self.branch3 = nn.Sequential(_unit(in_channels, reduce5, 1), _unit(reduce5, width5, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), _unit(in_channels, projection, 1))
        self.channels = single + width3 + width5 + projection

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([branch(maps) for branch in self.children()], dim=1)


def _unit(in_channels: int, channels: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """Convolution that keeps the size, batch norm, ReLU."""
    conv = nn.Conv2d(in_channels, channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
    norm = nn.BatchNorm2d(channels, eps=1e-3)
    return nn.Sequential(OrderedDict(conv=conv, bn=norm, relu=nn.ReLU(inplace=True)))
