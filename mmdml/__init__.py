"""mmdml: a deep-metric-learning toolbox in MMEngine style.

``import mmdml`` imports neither torch, torchvision nor mmengine. It checks from the metadata that the right OpenMMLab
distributions are installed and leaves hooks that act when their module is first imported.
"""

from mmdml.compat import (
    after_import,
    check_distributions,
    compute_parts_again,
    count_pictures_by_whole_numbers,
    define_missing_operators,
    drop_debug_prints,
    mend_config_files,
    register_config_scope,
    register_safe_loaders,
    register_strict_loaders,
)
from mmdml.version import __version__

__all__ = ['__version__']

check_distributions()
after_import('torchvision.extension', define_missing_operators)
after_import('mmengine.config.utils', register_config_scope)
after_import('mmengine.config.config', mend_config_files)
after_import('mmengine.logging.logger', drop_debug_prints)
after_import('mmengine.runner.activation_checkpointing', compute_parts_again)
after_import('mmengine.runner.checkpoint', register_safe_loaders)
after_import('mmengine.runner.checkpoint', register_strict_loaders)
after_import('mmpretrain.models.utils.attention', count_pictures_by_whole_numbers('ShiftWindowMSA'))
after_import('mmpretrain.models.backbones.mixmim', count_pictures_by_whole_numbers('MixMIMBlock'))
