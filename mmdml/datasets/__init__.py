"""Datasets, their samplers and transforms."""

from mmdml.structures.row_facts import GALLERY, QUERY, QUERY_AND_GALLERY

from .base import RetrievalDataset
from .cars196 import Cars196
from .concat import RetrievalConcatDataset
from .cub200 import CUB200
from .feature_augmentation import FeatureMixup, FeatureNoise
from .feature_batch import collate_features
from .feature_file import FeatureFile
from .fgvc_aircraft import FGVCAircraft
from .food101 import Food101
from .image_folder import ImageFolder
from .image_list import ImageList
from .in_shop import InShop
from .market1501 import Market1501
from .omniglot import Omniglot
from .oxford_flowers102 import OxfordFlowers102
from .oxford_pets import OxfordPets
from .reading import UnreadableImageError
from .samplers import ClusterPKSampler, Draw, PKSampler, WeightedPKSampler
from .samples import DatasetSummary, Samples
from .stanford_dogs import StanfordDogs
from .stanford_online_products import StanfordOnlineProducts
from .tar_shards import TarShards
from .transforms import LoadImageFromFile, RandomAffine
from .vehicle_id import VehicleID

__all__ = [
    'CUB200',
    'Cars196',
    'ClusterPKSampler',
    'DatasetSummary',
    'Draw',
    'FGVCAircraft',
    'FeatureFile',
    'FeatureMixup',
    'FeatureNoise',
    'Food101',
    'GALLERY',
    'ImageFolder',
    'ImageList',
    'InShop',
    'LoadImageFromFile',
    'Market1501',
    'Omniglot',
    'OxfordFlowers102',
    'OxfordPets',
    'PKSampler',
    'QUERY',
    'QUERY_AND_GALLERY',
    'RandomAffine',
    'RetrievalConcatDataset',
    'RetrievalDataset',
    'Samples',
    'StanfordDogs',
    'StanfordOnlineProducts',
    'TarShards',
    'UnreadableImageError',
    'VehicleID',
    'WeightedPKSampler',
    'collate_features',
]
