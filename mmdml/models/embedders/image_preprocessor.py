"""Batches of images on their way to the device."""

from typing import Any

from mmpretrain.models.utils.data_preprocessor import ClsDataPreprocessor

from mmdml.registry import MODELS


@MODELS.register_module()
class ImagePreprocessor(ClsDataPreprocessor):
    """mmpretrain's normalization and color order, in copies that the host does not wait for.

    Images are copied while the host goes on, which needs ``pin_memory=True`` in the loader to overlap with what the
    device does. Labels stay where the loader has them: :class:`ImageEmbedder` sends those of a batch at once.

    Args:
        kwargs: see ``mmpretrain.ClsDataPreprocessor``.

    Config::

        data_preprocessor=dict(
            type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._non_blocking = True

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Return the batch with normalized images on the device of the model."""
        if self.to_onehot or self.batch_augments is not None:
            return super().forward(data, training)
        return {**super().forward({'inputs': data['inputs']}, training), 'data_samples': data.get('data_samples')}
