"""Backbones that mmpretrain lacks."""

from .bn_inception import BNInception
from .conv4 import Conv4
from .efficientnet_lite import EfficientNetLite0, EfficientNetLite2
from .googlenet import GoogLeNet
from .identity import Identity

__all__ = ['BNInception', 'Conv4', 'EfficientNetLite0', 'EfficientNetLite2', 'GoogLeNet', 'Identity']
