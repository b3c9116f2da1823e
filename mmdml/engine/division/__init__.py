"""How the training images are divided among the learners (D&C): clustering, matching, schedule."""

from .class_clusters import bisect, every_cluster_has_classes, kmeans_with_classes
from .divider import Divider, Division
from .matching import match_clusters, overlap_share, released_match_clusters
from .schedule import Stage, Stages, num_clusters_at
from .singletons import Kept, class_table, drop_singletons, move_singletons

__all__ = [
    'Divider',
    'Division',
    'Kept',
    'Stage',
    'Stages',
    'bisect',
    'class_table',
    'drop_singletons',
    'every_cluster_has_classes',
    'kmeans_with_classes',
    'match_clusters',
    'move_singletons',
    'num_clusters_at',
    'overlap_share',
    'released_match_clusters',
]
