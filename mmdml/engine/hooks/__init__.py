"""Hooks of a run."""

from .division_hook import DivisionHook
from .freeze_backbone_hook import FreezeBackboneHook
from .progress_hook import ProgressHook
from .run_state_hook import RunStateHook
from .seed_hook import EpochSeedHook
from .selection_guard_hook import SelectionGuardHook
from .summary_hook import SummaryHook
from .sweep_hook import SweepHook

__all__ = [
    'DivisionHook',
    'EpochSeedHook',
    'FreezeBackboneHook',
    'ProgressHook',
    'RunStateHook',
    'SelectionGuardHook',
    'SummaryHook',
    'SweepHook',
]
