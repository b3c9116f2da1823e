"""Losses over pairs: each takes a PairBatch and, at most, mined tuples."""

from .base import PairLoss
from .contrastive_loss import ContrastiveLoss
from .multi_similarity_loss import MultiSimilarityLoss
from .triplet_loss import TripletLoss

__all__ = ['ContrastiveLoss', 'MultiSimilarityLoss', 'PairLoss', 'TripletLoss']
