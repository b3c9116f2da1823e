"""Hooks of a run."""

from .checkpoint_hook import CheckpointHook
from .console_hook import ConsoleHook
from .dataset_columns_hook import DatasetColumnsHook
from .division_hook import DivisionHook
from .ema_hook import EMAHook
from .feature_width_hook import FeatureWidthHook
from .finite_loss_hook import FiniteLossHook
from .freeze_backbone_hook import FreezeBackboneHook
from .mean_teacher_hook import MeanTeacherHook
from .norm_statistics_hook import NormStatisticsHook
from .resumed_evaluation_hook import ResumedEvaluationHook
from .run_state_hook import RunStateHook
from .runtime_info_hook import RuntimeInfoHook
from .seed_hook import EpochSeedHook
from .selection_guard_hook import SelectionGuardHook
from .step_context_hook import StepContextHook
from .summary_hook import SummaryHook
from .sweep_hook import SweepHook

__all__ = [
    'CheckpointHook',
    'ConsoleHook',
    'DatasetColumnsHook',
    'DivisionHook',
    'EMAHook',
    'EpochSeedHook',
    'FeatureWidthHook',
    'FiniteLossHook',
    'FreezeBackboneHook',
    'MeanTeacherHook',
    'NormStatisticsHook',
    'ResumedEvaluationHook',
    'RunStateHook',
    'RuntimeInfoHook',
    'SelectionGuardHook',
    'StepContextHook',
    'SummaryHook',
    'SweepHook',
]
