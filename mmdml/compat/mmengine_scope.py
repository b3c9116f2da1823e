"""Makes ``_base_ = ['mmdml::...']`` known to MMEngine's config reader."""

from types import ModuleType


def register_config_scope(config_utils: ModuleType) -> None:
    """Add mmdml to the packages whose configs other projects may inherit.

    MMEngine looks the scope before ``::`` up in ``MODULE2PACKAGE`` and reads ``<package>/.mim/configs``::

        _base_ = ['mmdml::iaa/iaa_ms_r50_cub.py']

    Args:
        config_utils: The module ``mmengine.config.utils``.
    """
    config_utils.MODULE2PACKAGE['mmdml'] = 'mmdml'
