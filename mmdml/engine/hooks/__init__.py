"""Hooks of a run."""

from .division_hook import DivisionHook
from .freeze_backbone_hook import FreezeBackboneHook
from .run_state_hook import RunStateHook
from .seed_hook import EpochSeedHook
from .step_context_hook import StepContextHook
from .summary_hook import SummaryHook
from .sweep_hook import SweepHook

__all__ = [
    'DivisionHook',
    'EpochSeedHook',
    'FreezeBackboneHook',
    'RunStateHook',
    'StepContextHook',
    'SummaryHook',
    'SweepHook',
]
