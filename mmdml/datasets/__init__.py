"""Data sets, their samplers and transforms."""

from .base import GALLERY, QUERY, QUERY_AND_GALLERY, RetrievalDataset, Samples, UnreadableImageError
from .concat import RetrievalConcatDataset
from .cub200 import CUB200
from .image_folder import ImageFolder
from .image_list import ImageList
from .omniglot import Omniglot
from .samplers import ClusterPKSampler, Draw, PKSampler
from .transforms import RandomAffine

__all__ = [
    'CUB200',
    'ClusterPKSampler',
    'GALLERY',
    'QUERY',
    'QUERY_AND_GALLERY',
    'Draw',
    'ImageFolder',
    'ImageList',
    'Omniglot',
    'PKSampler',
    'RandomAffine',
    'RetrievalConcatDataset',
    'RetrievalDataset',
    'Samples',
    'UnreadableImageError',
]
