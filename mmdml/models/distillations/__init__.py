"""Distillations: terms beside the loss that pull the embedding towards another view of the same batch."""

from .base import Distillation, EmbeddedBatch
from .mean_teacher import MeanTeacher
from .s2sd import S2SD

__all__ = ['S2SD', 'Distillation', 'EmbeddedBatch', 'MeanTeacher']
