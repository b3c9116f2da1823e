"""The one model of mmdml: pictures in, unit vectors out."""

from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmdml.compat.safe_checkpoint import explain_missing_weights
from mmdml.registry import MODELS


@MODELS.register_module()
class ImageEmbedder(BaseModel):
    """Backbone, pooling, neck and head.

    Args:
        backbone: config, e.g. ``dict(type='mmpretrain.ResNet', depth=50)`` or ``dict(type='Conv4')``.
        neck: config of the embedding layer; offers ``unit(raw, learner)``.
        head: config of the head, needed for training only.
        pooling: config of the pooling. Default: global average.
        freeze_bn_stats: keep the running statistics of all batch norms as loaded, while scale and shift train
            (IAA's recipe: small P x K batches give poor statistics).
        flip_test: predict the mean of the unit embeddings of a picture and of its mirror image, normalised again: twice
            the work, as Wang et al., ACM MM 2018 (MGN) do at test time. Not for pictures that mean something else
            mirrored, such as letters.
        data_preprocessor: config, e.g. ``dict(type='mmpretrain.ClsDataPreprocessor', mean=..., std=..., to_rgb=True)``.
        init_cfg: MMEngine's initialisation config.

    Config::

        model=dict(
            type='ImageEmbedder',
            backbone=dict(type='Conv4', channels=64),
            neck=dict(type='LinearEmbedding', in_channels=64, embed_dim=128),
            head=dict(type='EmbeddingHead', loss=dict(type='MultiSimilarityLoss')))
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        neck: dict[str, Any],
        head: dict[str, Any] | None = None,
        pooling: dict[str, Any] | None = None,
        freeze_bn_stats: bool = False,
        flip_test: bool = False,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        if data_preprocessor is not None and isinstance(data_preprocessor, dict):
            data_preprocessor = MODELS.build({'type': 'mmpretrain.ClsDataPreprocessor', **data_preprocessor})
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.pooling = MODELS.build(pooling or dict(type='GlobalAveragePooling'))
        self.neck = MODELS.build(neck)
        self.head = MODELS.build(head) if head else None
        if self.head is not None:
            self.head.bind(self.neck)
        self.freeze_bn_stats = freeze_bn_stats
        self.flip_test = flip_test
        #: Names of the hooks that want the backbone frozen at the moment: while there is one, its backward is skipped.
        self.backbone_frozen_by: set[str] = set()

    def init_weights(self) -> None:
        """Initialise by the ``init_cfg`` of the parts; missing pretrained weights end in an explanation."""
        with explain_missing_weights():
            super().init_weights()

    def train(self, mode: bool = True) -> 'ImageEmbedder':
        """Switch the mode; frozen batch norms stay in evaluation."""
        super().train(mode)
        if mode and self.freeze_bn_stats:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def extract(self, inputs: Tensor, learner: int | None = None) -> tuple[Tensor, Tensor]:
        """Preprocessed pictures -> pooled features ``(B, C)`` and raw embeddings ``(B, D)``."""
        # Without a graph there is nothing to go back through, and parameters without gradient are left alone by the
        # optimiser, whatever its momentum and weight decay; their own flags are not touched.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.backbone_frozen_by):
            maps = self.backbone(inputs)
        features = self.pooling(maps)
        return features, self.neck(features, learner)

    def forward(
        self, inputs: Tensor, data_samples: list[Any] | None = None, mode: str = 'tensor'
    ) -> Tensor | dict[str, Tensor] | list[Any]:
        """Run the model.

        Args:
            inputs: ``(B, C, H, W)`` preprocessed pictures.
            data_samples: one ``DataSample`` a picture, with ``gt_label`` for ``mode='loss'``.
            mode: 'tensor' -> unit embeddings ``(B, D)``; 'loss' -> dict of losses; 'predict' -> the data samples, each
                with a unit ``embedding`` ``(D,)``.

        Raises:
            ValueError: for another mode, for ``mode='loss'`` without labels or without a head.
        """
        if mode not in self._MODES:
            raise ValueError(f"mode must be one of {sorted(self._MODES)}, got '{mode}'")
        return self._MODES[mode](self, inputs, data_samples)

    def _tensor(self, inputs: Tensor, data_samples: list[Any] | None = None) -> Tensor:
        return self.neck.unit(self.extract(inputs)[1])

    def _loss(self, inputs: Tensor, data_samples: list[Any] | None) -> dict[str, Tensor]:
        if self.head is None:
            raise ValueError("mode='loss' needs a head, but the model was built without one")
        if not data_samples or any('gt_label' not in sample for sample in data_samples):
            raise ValueError("mode='loss' needs data samples with 'gt_label'; does the pipeline end with PackInputs?")
        device = inputs.device
        labels = torch.cat([sample.gt_label for sample in data_samples]).to(device)
        indices = torch.tensor([sample.get('sample_idx', -1) for sample in data_samples], device=device)
        learner = self.head.learner
        return self.head.loss(self.extract(inputs, learner)[1], labels, indices, self.neck, learner)

    def _predict(self, inputs: Tensor, data_samples: list[Any] | None = None) -> list[Any]:
        if data_samples is None:
            from mmpretrain.structures import DataSample

            data_samples = [DataSample() for _ in range(len(inputs))]
        unit = self._tensor(inputs)
        if self.flip_test:
            # The direction of the mean is that of the sum.
            unit = nn.functional.normalize(unit + self._tensor(inputs.flip(-1)))
        for sample, embedding in zip(data_samples, unit, strict=True):
            sample.set_field(embedding, 'embedding')
        return data_samples

    _MODES = {'tensor': _tensor, 'loss': _loss, 'predict': _predict}
