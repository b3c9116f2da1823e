"""Miners: each takes a PairBatch and returns Pairs or Triplets."""

from .batch_hard_miner import BatchHardMiner
from .multi_similarity_miner import MultiSimilarityMiner

__all__ = ['BatchHardMiner', 'MultiSimilarityMiner']
