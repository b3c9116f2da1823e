"""Protocols that a config can name: which images of a test set search which."""

from .base import Protocol, Split
from .per_part import PerPart, build_protocol
from .roles import LeaveOneOut, QueryGallery, by_roles
from .single_gallery_shot import SingleGalleryShot

__all__ = [
    'LeaveOneOut',
    'PerPart',
    'Protocol',
    'QueryGallery',
    'SingleGalleryShot',
    'Split',
    'build_protocol',
    'by_roles',
]
