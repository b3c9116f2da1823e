"""What makes torch, torchvision and MMEngine fit together, and loads their checkpoints as data.

Only what ``import mmdml`` needs is exported here, so that it imports neither torch nor MMEngine.
"""

from .activation_checkpointing import compute_parts_again
from .config_files import mend_config_files, register_config_scope
from .debug_prints import drop_debug_prints
from .distribution_check import check_distributions, find_conflicts
from .import_hooks import after_import
from .load_weights import register_strict_loaders
from .safe_checkpoint import register_safe_loaders
from .torchvision_compat import define_missing_operators
from .window_attention import count_pictures_by_whole_numbers

__all__ = [
    'after_import',
    'check_distributions',
    'compute_parts_again',
    'count_pictures_by_whole_numbers',
    'define_missing_operators',
    'drop_debug_prints',
    'find_conflicts',
    'mend_config_files',
    'register_config_scope',
    'register_safe_loaders',
    'register_strict_loaders',
]
