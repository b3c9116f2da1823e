"""From a batch of saved features to the model's input."""

from typing import Any

from mmengine.model import BaseDataPreprocessor

from mmdml.registry import MODELS


@MODELS.register_module()
class FeaturePreprocessor(BaseDataPreprocessor):
    """Move features ``(B, C)`` to the model's device as float32; nothing is normalized.

    Config::

        model=dict(type='ImageEmbedder', data_preprocessor=dict(type='FeaturePreprocessor'), ...)
    """

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Return ``inputs`` on the device, and the data samples as they are."""
        inputs = data['inputs'].to(self.device, non_blocking=self._non_blocking).float()
        return dict(inputs=inputs, data_samples=data['data_samples'])
