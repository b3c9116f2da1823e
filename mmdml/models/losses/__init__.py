"""Losses: each takes a PairBatch and, if it looks at pairs, mined tuples."""

from .angular_loss import AngularLoss
from .arc_face_loss import ArcFaceLoss
from .base import Loss, PairLoss
from .circle_loss import CircleLoss
from .contextual_loss import ContextualLoss
from .contrastive_loss import ContrastiveLoss
from .cos_face_loss import CosFaceLoss
from .fast_ap_loss import FastAPLoss
from .generalized_lifted_structure_loss import GeneralizedLiftedStructureLoss
from .hist_loss import HISTLoss
from .histogram_loss import HistogramLoss
from .lifted_structure_loss import LiftedStructureLoss
from .margin_loss import MarginLoss
from .matryoshka_loss import MatryoshkaLoss
from .mean_field_class_wise_multi_similarity_loss import MeanFieldClassWiseMultiSimilarityLoss
from .mean_field_contrastive_loss import MeanFieldContrastiveLoss
from .multi_similarity_loss import MultiSimilarityLoss
from .n_pairs_loss import NPairsLoss
from .norm_softmax_loss import NormSoftmaxLoss
from .nt_xent_loss import NTXentLoss
from .pml_adapter import PMLLoss
from .potential_field_loss import PotentialFieldLoss
from .proxy_anchor_loss import ProxyAnchorLoss
from .proxy_loss import ProxyLoss
from .proxy_nca_loss import ProxyNCALoss
from .proxy_nca_plus_plus_loss import ProxyNCAPlusPlusLoss
from .ranked_list_loss import RankedListLoss
from .recall_at_k_loss import RecallAtKLoss
from .roadmap_loss import RoadmapLoss
from .sigmoid_loss import SigmoidLoss
from .smooth_ap_loss import SmoothAPLoss
from .soft_triple_loss import SoftTripleLoss
from .softmax_proxy_loss import SoftmaxProxyLoss
from .sup_con_loss import SupConLoss
from .tcm_loss import TCMLoss
from .triplet_loss import TripletLoss
from .tuplet_margin_loss import TupletMarginLoss

__all__ = [
    'PotentialFieldLoss',
    'MeanFieldContrastiveLoss',
    'MeanFieldClassWiseMultiSimilarityLoss',
    'HISTLoss',
    'AngularLoss',
    'ArcFaceLoss',
    'CircleLoss',
    'ContextualLoss',
    'ContrastiveLoss',
    'CosFaceLoss',
    'FastAPLoss',
    'GeneralizedLiftedStructureLoss',
    'HistogramLoss',
    'LiftedStructureLoss',
    'Loss',
    'MarginLoss',
    'MatryoshkaLoss',
    'MultiSimilarityLoss',
    'NPairsLoss',
    'NTXentLoss',
    'NormSoftmaxLoss',
    'PMLLoss',
    'PairLoss',
    'ProxyAnchorLoss',
    'ProxyLoss',
    'ProxyNCALoss',
    'ProxyNCAPlusPlusLoss',
    'RankedListLoss',
    'RecallAtKLoss',
    'RoadmapLoss',
    'SigmoidLoss',
    'SmoothAPLoss',
    'SoftTripleLoss',
    'SoftmaxProxyLoss',
    'SupConLoss',
    'TCMLoss',
    'TripletLoss',
    'TupletMarginLoss',
]
