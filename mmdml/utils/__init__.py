"""Helpers that belong to no single part.

Only what ``import mmdml`` itself needs is exported here, so that it stays fast. Checkpoint safety is imported as
``mmdml.utils.safe_checkpoint``; ``mmdml.utils.collect_env`` is run as ``python -m mmdml.utils.collect_env``.
"""

from mmdml.utils.distribution_check import check_distributions, find_conflicts
from mmdml.utils.import_hooks import after_import
from mmdml.utils.mmengine_scope import register_config_scope
from mmdml.utils.torchvision_compat import define_missing_operators

__all__ = [
    'after_import',
    'check_distributions',
    'define_missing_operators',
    'find_conflicts',
    'register_config_scope',
]
