"""Targets: each says how much every pair of a batch is a positive, from columns of the training set."""

from .base import ColumnTargets
from .hierarchy_targets import HierarchyTargets
from .label_set_targets import LabelSetTargets

__all__ = ['ColumnTargets', 'HierarchyTargets', 'LabelSetTargets']
