"""What a run does besides the steps of the optimizer."""

from mmdml.dist import gather_detached, gather_rows

from .bank import EmbeddingBank
from .division import match_clusters
from .hooks import *  # noqa: F401, F403
from .log_processor import FreshLogProcessor
from .runner import MetricLearningRunner, build_runner
from .sweep import sweep
from .tensorboard import TensorboardVisBackend

__all__ = [
    'EmbeddingBank',
    'FreshLogProcessor',
    'MetricLearningRunner',
    'TensorboardVisBackend',
    'build_runner',
    'gather_detached',
    'gather_rows',
    'match_clusters',
    'sweep',
]
