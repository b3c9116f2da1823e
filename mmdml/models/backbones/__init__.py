"""Backbones that mmpretrain lacks, and those of timm."""

from .bn_inception import BNInception
from .conv4 import Conv4
from .efficientnet_lite import EfficientNetLite0
from .googlenet import GoogLeNet
from .timm_model import TimmModel

__all__ = ['BNInception', 'Conv4', 'EfficientNetLite0', 'GoogLeNet', 'TimmModel']
