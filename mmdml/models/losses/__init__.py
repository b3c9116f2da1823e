"""Losses: each takes a PairBatch and, if it looks at pairs, mined tuples."""

from .base import Loss, PairLoss
from .contrastive_loss import ContrastiveLoss
from .margin_loss import MarginLoss
from .multi_similarity_loss import MultiSimilarityLoss
from .n_pairs_loss import NPairsLoss
from .proxy_loss import ProxyLoss
from .proxy_nca_loss import ProxyNCALoss
from .triplet_loss import TripletLoss

__all__ = [
    'ContrastiveLoss',
    'Loss',
    'MarginLoss',
    'MultiSimilarityLoss',
    'NPairsLoss',
    'PairLoss',
    'ProxyLoss',
    'ProxyNCALoss',
    'TripletLoss',
]
