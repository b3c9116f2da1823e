"""The model: images in, unit vectors out."""

from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmdml.compat.safe_checkpoint import explain_missing_weights
from mmdml.registry import MODELS
from mmdml.structures import StepContext, indices_of, labels_of
from mmdml.utils.numbers import check_counts

from .chunks import in_chunks


@MODELS.register_module()
class ImageEmbedder(BaseModel):
    """Backbone, pooling, neck and head.

    Args:
        backbone: config, e.g. ``dict(type='mmpretrain.ResNet', depth=50)`` or ``dict(type='Conv4')``.
        neck: config of the embedding layer; an :class:`EmbeddingNeck`.
        head: config of the head, needed for training only.
        pooling: config of the pooling. Default: global average.
        freeze_bn_stats: keep the running statistics of all batch norms as loaded, while scale and shift train
            (IAA's recipe: small P x K batches give poor statistics).
        chunk_size: embed a training batch in parts of so many images, in the memory of one part, so that the loss can
            have batches of thousands (GradCache, :func:`~mmdml.models.embedders.chunks.in_chunks`): the backbone runs
            twice, the gradient is that of one pass. Batch norms with the statistics of their batch would see one part
            at a time: freeze them (``freeze_bn_stats``). Default: all at once.
        flip_test: predict the mean of the unit embeddings of an image and of its mirror image, normalized again: twice
            the work, as Wang et al., ACM MM 2018 (MGN) do at test time. Not for images that mean something else
            mirrored, such as letters.
        data_preprocessor: config, e.g. ``dict(mean=..., std=..., to_rgb=True)``; an :class:`ImagePreprocessor` where it
            has no type.
        channels_last: keep the maps and convolutions of the backbone channels-last, in which half precision on a GPU is
            fastest. Values differ by rounding.
        compile_backbone: compile the backbone by ``torch.compile``: True, or its arguments, e.g. ``dict(mode=...)``.
            The names of the weights stay.
        init_cfg: MMEngine's initialization config.

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
        chunk_size: int | None = None,
        flip_test: bool = False,
        data_preprocessor: dict[str, Any] | None = None,
        channels_last: bool = False,
        compile_backbone: bool | dict[str, Any] = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        if data_preprocessor is not None and isinstance(data_preprocessor, dict):
            data_preprocessor = MODELS.build({'type': 'ImagePreprocessor', **data_preprocessor})
        if chunk_size is not None:
            check_counts(chunk_size=chunk_size)
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.memory_format = torch.channels_last if channels_last else torch.preserve_format
        self.backbone.to(memory_format=self.memory_format)
        if compile_backbone:
            self.backbone.compile(**(compile_backbone if isinstance(compile_backbone, dict) else {}))
        self.pooling = MODELS.build(pooling or dict(type='GlobalAveragePooling'))
        self.neck = MODELS.build(neck)
        self.head = MODELS.build(head) if head else None
        if self.head is not None:
            self.head.bind(self.neck)
        # Parts of parameters that differ between ranks: DistributedDataParallel neither copies nor averages them.
        self._ddp_params_and_buffers_to_ignore = [
            f'{name}.{own}'
            for name, module in self.named_modules()
            for own in getattr(module, 'sharded_parameters', {})
        ]
        self.freeze_bn_stats = freeze_bn_stats
        self.chunk_size = chunk_size
        if flip_test:
            self.neck.require_sphere('flip_test')
        self.flip_test = flip_test
        #: What the training step belongs to, set by ``StepContextHook``.
        self.step: StepContext | None = None
        #: Names of the hooks that keep the backbone frozen at the moment: while there is one, its backward is skipped.
        self.backbone_frozen_by: set[str] = set()

    def init_weights(self) -> None:
        """Initialize by the ``init_cfg`` of the parts; missing pretrained weights end in an explanation."""
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

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Preprocessed images ``(B, C, H, W)`` -> pooled features ``(B, C')`` of the backbone."""
        # Without a graph there is nothing to go back through, and parameters without gradient are left alone by the
        # optimizer, whatever its momentum and weight decay; their own flags are not touched.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.backbone_frozen_by):
            maps = self.backbone(inputs.to(memory_format=self.memory_format))
        return self.pooling(maps)

    def loss(self, inputs: Tensor, data_samples: list[Any]) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            inputs: ``(B, C, H, W)`` preprocessed images.
            data_samples: one ``DataSample`` an image, with ``gt_label``.

        Returns:
            See :meth:`EmbeddingHead.loss`.

        Raises:
            ValueError: without labels or without a head.
        """
        if self.head is None:
            raise ValueError("mode='loss' needs a head, but the model was built without one")
        labels = labels_of(data_samples)
        if labels is None:
            raise ValueError("mode='loss' needs data samples with 'gt_label'; does the pipeline end with PackInputs?")
        # Small copies, which the host does not wait for.
        labels = labels.to(inputs.device, non_blocking=True)
        indices = indices_of(data_samples).to(inputs.device, non_blocking=True)
        features = in_chunks(self.extract_feat, inputs, self.chunk_size or len(inputs), self)
        raw = self.neck(features, self.step.learner_index if self.step else None)
        return self.head.loss(raw, labels, indices, self.neck, self.step, features, inputs)

    def predict(self, inputs: Tensor, data_samples: list[Any] | None = None) -> list[Any]:
        """Embed images.

        Args:
            inputs: ``(B, C, H, W)`` preprocessed images.
            data_samples: one ``DataSample`` an image. Default: new ones.

        Returns:
            The data samples, each with a unit ``embedding`` ``(D,)``.
        """
        if data_samples is None:
            from mmpretrain.structures import DataSample

            data_samples = [DataSample() for _ in range(len(inputs))]
        data_samples = [*data_samples]  # of saved features they are made one by one
        for sample, embedding in zip(data_samples, self.embed(inputs), strict=True):
            sample.set_field(embedding, 'embedding')
        return data_samples

    def embed(self, inputs: Tensor) -> Tensor:
        """Preprocessed images ``(B, C, H, W)`` -> the unit embeddings ``(B, D)`` that :meth:`predict` returns.

        Raises:
            ValueError: with ``flip_test``, for what are no images, such as saved features.
        """
        unit = self._unit(inputs)
        if self.flip_test:
            if inputs.ndim != 4:
                raise ValueError(f'flip_test mirrors images (B, C, H, W), got inputs of shape {tuple(inputs.shape)}')
            # The direction of the mean is that of the sum.
            unit = nn.functional.normalize(unit + self._unit(inputs.flip(-1)))
        return unit

    def forward(
        self, inputs: Tensor, data_samples: list[Any] | None = None, mode: str = 'tensor'
    ) -> Tensor | dict[str, Tensor] | list[Any]:
        """Run the model.

        Args:
            inputs: ``(B, C, H, W)`` preprocessed images.
            data_samples: one ``DataSample`` an image, with ``gt_label`` for ``mode='loss'``.
            mode: 'tensor' -> unit embeddings ``(B, D)``; 'loss' -> :meth:`loss`; 'predict' -> :meth:`predict`.

        Raises:
            ValueError: for another mode, for ``mode='loss'`` without labels or without a head.
        """
        modes = {
            'tensor': lambda inputs, data_samples: self._unit(inputs),
            'loss': self.loss,
            'predict': self.predict,
        }
        if mode not in modes:
            raise ValueError(f"mode must be one of {sorted(modes)}, got '{mode}'")
        return modes[mode](inputs, data_samples)

    def _unit(self, inputs: Tensor) -> Tensor:
        return self.neck.unit(self.neck(self.extract_feat(inputs)))
