"""Losses: each takes a PairBatch and, if it looks at pairs, mined tuples."""

from .arc_face_loss import ArcFaceLoss
from .base import Loss, PairLoss
from .contrastive_loss import ContrastiveLoss
from .cos_face_loss import CosFaceLoss
from .margin_loss import MarginLoss
from .multi_similarity_loss import MultiSimilarityLoss
from .n_pairs_loss import NPairsLoss
from .norm_softmax_loss import NormSoftmaxLoss
from .proxy_anchor_loss import ProxyAnchorLoss
from .proxy_loss import ProxyLoss
from .proxy_nca_loss import ProxyNCALoss
from .proxy_nca_plus_plus_loss import ProxyNCAPlusPlusLoss
from .soft_triple_loss import SoftTripleLoss
from .triplet_loss import TripletLoss

__all__ = [
    'ArcFaceLoss',
    'ContrastiveLoss',
    'CosFaceLoss',
    'Loss',
    'MarginLoss',
    'MultiSimilarityLoss',
    'NPairsLoss',
    'NormSoftmaxLoss',
    'PairLoss',
    'ProxyAnchorLoss',
    'ProxyLoss',
    'ProxyNCALoss',
    'ProxyNCAPlusPlusLoss',
    'SoftTripleLoss',
    'TripletLoss',
]
