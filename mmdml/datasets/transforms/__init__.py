"""Transforms that mmcv and mmpretrain lack."""

from .load_image import LoadImageFromFile
from .random_affine import RandomAffine

__all__ = ['LoadImageFromFile', 'RandomAffine']
