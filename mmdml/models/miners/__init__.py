"""Miners: each takes a PairBatch and returns Pairs or Triplets."""

from .batch_hard_miner import BatchHardMiner
from .closest_beyond_cutoff_miner import ClosestBeyondCutoffMiner
from .distance_weighted_miner import DistanceWeightedMiner
from .easy_positive_miner import EasyPositiveMiner
from .multi_similarity_miner import MultiSimilarityMiner
from .pml_adapter import PMLMiner
from .semi_hard_miner import SemiHardMiner

__all__ = [
    'BatchHardMiner',
    'ClosestBeyondCutoffMiner',
    'DistanceWeightedMiner',
    'EasyPositiveMiner',
    'MultiSimilarityMiner',
    'PMLMiner',
    'SemiHardMiner',
]
