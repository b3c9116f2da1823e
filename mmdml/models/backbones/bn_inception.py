"""BN-Inception, with the parameter names of the weights converted from Caffe."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmdml.registry import MODELS

from .without_classifier import WithoutClassifier


def _average(maps: Tensor) -> Tensor:
    # Caffe divides by 9 at the border as well.
    return F.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=True)


def _maximum(maps: Tensor) -> Tensor:
    return F.max_pool2d(maps, 3, stride=1, padding=1)


def _halving(maps: Tensor) -> Tensor:
    return F.max_pool2d(maps, 3, stride=2, ceil_mode=True)


class _Block(NamedTuple):
    """Widths of the branches of an inception block; 0: it has no such branch, and halves the map instead."""

    single: int
    three: tuple[int, int]  # reduction, 3x3
    double: tuple[int, int]  # reduction, each of the two 3x3
    pool: Callable[[Tensor], Tensor]
    projection: int

    @property
    def stride(self) -> int:
        return 1 if self.single else 2


#: The blocks of the Caffe model.
_BLOCKS = {
    '3a': _Block(64, (64, 64), (64, 96), _average, 32),
    '3b': _Block(64, (64, 96), (64, 96), _average, 64),
    '3c': _Block(0, (128, 160), (64, 96), _halving, 0),
    '4a': _Block(224, (64, 96), (96, 128), _average, 128),
    '4b': _Block(192, (96, 128), (96, 128), _average, 128),
    '4c': _Block(160, (128, 160), (128, 160), _average, 128),
    '4d': _Block(96, (128, 192), (160, 192), _average, 128),
    '4e': _Block(0, (128, 192), (192, 256), _halving, 0),
    '5a': _Block(352, (192, 320), (160, 224), _average, 128),
    '5b': _Block(352, (192, 320), (192, 224), _maximum, 128),
}


@MODELS.register_module()
class BNInception(WithoutClassifier):
    """Inception with batch norm (ICML 2015, arXiv 1502.03167), without classifier.

    The backbone of many deep-metric-learning papers. Layers and names are those of the weights converted from Caffe
    (``bn_inception-52deb4733.pth``), which load as they are. They were trained on Caffe's images: **BGR, 0 to 255**,
    mean (104, 117, 128), deviation 1; see ``configs/_base_/models/bninception.py``.

    Args:
        init_cfg: MMEngine's initialization config, e.g. ``dict(type='Pretrained', checkpoint=...)``.

    Config::

        data_preprocessor=dict(mean=[104.0, 117.0, 128.0], std=[1.0, 1.0, 1.0], to_rgb=False),
        backbone=dict(type='BNInception')
    """

    classifier = ('last_linear', 'fc')

    def __init__(self, init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(init_cfg)
        self._add('conv1_7x7_s2', 3, 64, 7, stride=2)
        self._add('conv2_3x3_reduce', 64, 64, 1)
        self._add('conv2_3x3', 64, 192, 3)
        channels = 192
        for name, block in _BLOCKS.items():
            channels = self._add_block(f'inception_{name}', channels, block)

    def _add(self, name: str, in_channels: int, channels: int, kernel_size: int, stride: int = 1) -> None:
        self.add_module(name, nn.Conv2d(in_channels, channels, kernel_size, stride, padding=kernel_size // 2))
        self.add_module(f'{name}_bn', nn.BatchNorm2d(channels))

    def _add_block(self, name: str, channels: int, block: _Block) -> int:
        if block.single:
            self._add(f'{name}_1x1', channels, block.single, 1)
        reduced, three = block.three
        self._add(f'{name}_3x3_reduce', channels, reduced, 1)
        self._add(f'{name}_3x3', reduced, three, 3, block.stride)
        reduced, double = block.double
        self._add(f'{name}_double_3x3_reduce', channels, reduced, 1)
        self._add(f'{name}_double_3x3_1', reduced, double, 3)
        self._add(f'{name}_double_3x3_2', double, double, 3, block.stride)
        if block.projection:
            self._add(f'{name}_pool_proj', channels, block.projection, 1)
        return block.single + three + double + (block.projection or channels)

    def forward(self, inputs: Tensor) -> tuple[Tensor]:
        """``(B, 3, H, W)``, BGR in Caffe's range -> a tuple of one map ``(B, 1024, (H + 1) // 32, (W + 1) // 32)``.

        Raises:
            ValueError: for sizes that the network cannot halve evenly: its poolings round other than its convolutions.
        """
        for size in inputs.shape[-2:]:
            # The side of the map in block 3c is (size + 1) // 8, and it is halved twice from there.
            if size < 31 or (size + 1) // 8 % 4:
                raise ValueError(
                    'BNInception takes pictures whose sides are multiples of 32 (or from 1 below to 6 above one), '
                    f'got {tuple(inputs.shape[-2:])}'
                )
        maps = _halving(self._run(inputs, 'conv1_7x7_s2'))
        maps = _halving(self._run(maps, 'conv2_3x3_reduce', 'conv2_3x3'))
        for name, block in _BLOCKS.items():
            maps = self._run_block(f'inception_{name}', maps, block)
        return (maps,)

    def _run(self, maps: Tensor, *names: str) -> Tensor:
        for name in names:
            conv, norm = getattr(self, name), getattr(self, f'{name}_bn')
            maps = F.relu(norm(conv(maps)), inplace=True)
        return maps

    def _run_block(self, name: str, maps: Tensor, block: _Block) -> Tensor:
        double = [f'{name}_double_3x3_{step}' for step in ('reduce', '1', '2')]
        branches = [self._run(maps, f'{name}_3x3_reduce', f'{name}_3x3'), self._run(maps, *double)]
        if block.single:
            branches.insert(0, self._run(maps, f'{name}_1x1'))
        pooled = block.pool(maps)
        branches.append(self._run(pooled, f'{name}_pool_proj') if block.projection else pooled)
        return torch.cat(branches, dim=1)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # The public file holds the vectors of its batch norms as (1, C).
        for key, value in state_dict.items():
            if key.startswith(prefix) and '_bn.' in key and value.ndim == 2 and len(value) == 1:
                state_dict[key] = value.squeeze(0)
        super()._load_from_state_dict(state_dict, prefix, *args)
