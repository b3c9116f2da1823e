"""Miners: each takes a PairBatch and returns Pairs or Triplets."""

from .angular_miner import AngularMiner
from .batch_hard_miner import BatchHardMiner
from .closest_beyond_cutoff_miner import ClosestBeyondCutoffMiner
from .distance_weighted_miner import DistanceWeightedMiner
from .easy_hard_miner import EasyHardMiner
from .easy_positive_miner import EasyPositiveMiner
from .hard_cluster_miner import HardClusterMiner
from .hard_fraction_miner import HardFractionMiner
from .multi_similarity_miner import MultiSimilarityMiner
from .pair_margin_miner import PairMarginMiner
from .pml_adapter import PMLMiner
from .semi_hard_miner import SemiHardMiner
from .triplet_margin_miner import TripletMarginMiner

__all__ = [
    'AngularMiner',
    'BatchHardMiner',
    'ClosestBeyondCutoffMiner',
    'DistanceWeightedMiner',
    'EasyHardMiner',
    'EasyPositiveMiner',
    'HardClusterMiner',
    'HardFractionMiner',
    'MultiSimilarityMiner',
    'PMLMiner',
    'PairMarginMiner',
    'SemiHardMiner',
    'TripletMarginMiner',
]
