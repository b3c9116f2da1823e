"""Hooks of a run."""

from .console_hook import ConsoleHook
from .division_hook import DivisionHook
from .freeze_backbone_hook import FreezeBackboneHook
from .progress_hook import ProgressHook
from .run_state_hook import RunStateHook
from .seed_hook import EpochSeedHook
from .summary_hook import SummaryHook
from .sweep_hook import SweepHook

__all__ = [
    'ConsoleHook',
    'DivisionHook',
    'EpochSeedHook',
    'FreezeBackboneHook',
    'ProgressHook',
    'RunStateHook',
    'SummaryHook',
    'SweepHook',
]
