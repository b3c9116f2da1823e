"""Backbones that mmpretrain lacks, those of timm, and what adapts any of them."""

from .adapters import LoRABackbone, PromptedBackbone
from .bn_inception import BNInception
from .conv4 import Conv4
from .efficientnet_lite import EfficientNetLite0, EfficientNetLite2
from .googlenet import GoogLeNet
from .identity import Identity
from .timm_model import TimmModel

__all__ = [
    'BNInception',
    'Conv4',
    'EfficientNetLite0',
    'EfficientNetLite2',
    'GoogLeNet',
    'Identity',
    'LoRABackbone',
    'PromptedBackbone',
    'TimmModel',
]
