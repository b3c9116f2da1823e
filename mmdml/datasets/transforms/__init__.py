"""Transforms that mmcv and mmpretrain lack."""

from .random_affine import RandomAffine

__all__ = ['RandomAffine']
