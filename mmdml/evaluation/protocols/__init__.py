"""Who searches whom in a test set: protocols that a config can name."""

from .base import BOTH, GALLERY, QUERY, Protocol, RowFacts, Split
from .per_part import PerPart, build_protocol
from .roles import LeaveOneOut, QueryGallery, by_roles
from .single_gallery_shot import SingleGalleryShot

__all__ = [
    'BOTH',
    'GALLERY',
    'QUERY',
    'LeaveOneOut',
    'PerPart',
    'Protocol',
    'QueryGallery',
    'RowFacts',
    'SingleGalleryShot',
    'Split',
    'build_protocol',
    'by_roles',
]
