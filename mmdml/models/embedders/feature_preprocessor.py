"""From a batch of saved features to the model's input."""

from typing import Any

from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmdml.registry import MODELS


@MODELS.register_module()
class FeaturePreprocessor(BaseDataPreprocessor):
    """Move features ``(B, C)`` to the model's device as float32; nothing is normalized.

    Config::

        model=dict(type='ImageEmbedder', data_preprocessor=dict(type='FeaturePreprocessor'), ...)
    """

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Return ``inputs`` on the device, and the data samples as they are.

        Raises:
            ValueError: they are no features of a batch.
        """
        inputs = data['inputs']
        if not isinstance(inputs, Tensor) or inputs.ndim != 2:
            found = f'shape {tuple(inputs.shape)}' if isinstance(inputs, Tensor) else f'a {type(inputs).__name__}'
            raise ValueError(
                f'the inputs of this model must be features (B, C), got {found}; the loader of features needs '
                "collate_fn=dict(type='mmdml.collate_features'), and pictures need a model with a backbone"
            )
        inputs = inputs.to(self.device, non_blocking=self._non_blocking).float()
        return dict(inputs=inputs, data_samples=data['data_samples'])
