"""A model in torch as what the inferencer drives: pictures through its test pipeline, batches through its layers."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from torch import nn

from mmdml.apis.model_names import find_model
from mmdml.apis.models import build_named
from mmdml.apis.named_model import features_only
from mmdml.datasets.transforms import LoadImageFromFile
from mmdml.models import ImageEmbedder
from mmdml.models.embedders import FeaturePreprocessor
from mmdml.registry import TRANSFORMS
from mmdml.utils.weights_hash import weights_hash


class TorchEmbedder:
    """Read, prepare and embed pictures as a test run of the model does.

    Args:
        model: a name, a config, or a built embedder; see :class:`~mmdml.apis.ImageEmbeddingInferencer`.
        pretrained: as there.
        pipeline: as there.
        device: as there.

    Raises:
        ValueError: a built embedder without ``pipeline``, or a config without one; a model that takes features; see
            also :func:`~mmdml.apis.get_model`.
    """

    def __init__(
        self,
        model: str | Path | Config | ImageEmbedder,
        pretrained: bool | str | Path = True,
        pipeline: Sequence[dict | Callable] | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        built = isinstance(model, nn.Module)
        if built and pipeline is None:
            raise ValueError('a built embedder comes without its pre-processing: pass pipeline=[...]')
        if built and isinstance(model.data_preprocessor, FeaturePreprocessor):
            raise ValueError(features_only('this embedder'))
        if not built:
            named = find_model(model)
            named.require_pictures()
            if pretrained is False:
                named, pretrained = replace(named, weights='', initialized=True), True
            pipeline = _test_pipeline(named.config, named.name) if pipeline is None else pipeline
            model = build_named(named, pretrained, overrides=dict(head=None))
        if device is not None or not built:
            model.to(_usable(device) if device is not None else get_device())
        self.model = model.eval()
        self._described = describe_pipeline(pipeline)
        scope = 'mmdml' if built else named.config.get('default_scope', 'mmdml')
        with DefaultScope.overwrite_default_scope(scope), nullcontext() if built else named.building():
            transforms = [TRANSFORMS.build(each) if isinstance(each, dict) else each for each in pipeline]
        # Where the first one loads no file, as in datasets that hold their images in memory, loading comes before it.
        if not transforms or not hasattr(transforms[0], 'color_type'):
            color_type = 'grayscale' if _in_channels(model) == 1 else 'color'
            transforms.insert(0, LoadImageFromFile(color_type=color_type))
        #: From a file to the model's input; the first one loads.
        self.transforms = transforms
        self._load, self._prepare = transforms[0], Compose(transforms[1:])

    @property
    def model_hash(self) -> str:
        """See :func:`embedding_hash`; taken anew at each call, as training the model further changes it."""
        return embedding_hash(self.model, self._described)

    @property
    def dimensions(self) -> int:
        """Length of an embedding."""
        return self.model.neck.embed_dim

    @property
    def gray(self) -> bool:
        """Whether pictures are read without colors."""
        return self._load.color_type == 'grayscale'

    def read(self, path: str) -> dict[str, Any]:
        """Return what the loading transform makes of a file; errors as it raises them."""
        return self._load(dict(img_path=path))

    def prepare(self, read: dict[str, Any] | np.ndarray) -> dict[str, Any]:
        """Return the pipeline's output.

        Args:
            read: what :meth:`read` returned, or the pixels of a picture in memory.

        Raises:
            ValueError: the pipeline returned None, or no inputs; other errors as the transforms raise them.
        """
        if isinstance(read, np.ndarray):
            read = dict(img=read, img_shape=read.shape[:2], ori_shape=read.shape[:2], img_path='')
        data = None if read is None else self._prepare(read)
        if data is None:
            raise ValueError('the pipeline returned None')
        if 'inputs' not in data:
            raise ValueError("the pipeline gives no 'inputs': it must end with dict(type='mmpretrain.PackInputs')")
        return data

    @torch.no_grad()
    def embed(self, prepared: Sequence[dict[str, Any]]) -> np.ndarray:
        """Return the ``(N, D)`` float32 embeddings of prepared pictures.

        Raises:
            ValueError: they are of several sizes.
        """
        inputs = [item['inputs'] for item in prepared]
        sizes = {tuple(each.shape) for each in inputs}
        if len(sizes) > 1:
            raise ValueError(
                f'the pipeline makes inputs of several sizes, e.g. {" and ".join(map(str, sorted(sizes)[:2]))}; let it '
                'end in a crop or resize to one size, or embed with batch_size=1'
            )
        batch = dict(inputs=torch.stack(inputs), data_samples=[item['data_samples'] for item in prepared])
        found = self.model.test_step(batch)
        return torch.stack([sample.embedding for sample in found]).float().cpu().numpy()


def describe_pipeline(pipeline: Sequence[dict | Callable]) -> list[Any]:
    """Return what of a pipeline enters the hash."""
    return [each if isinstance(each, dict) else repr(each) for each in pipeline]


def embedding_hash(model: ImageEmbedder, pipeline: Sequence[Any]) -> str:
    """SHA-256 of all that makes an embedding of a file: weights, parts, normalization and pipeline, not the head.

    Args:
        model: built, with its weights.
        pipeline: from :func:`describe_pipeline`.
    """
    embeds = {key: value for key, value in model.state_dict().items() if not key.startswith('head.')}
    parts = [[name, type(part).__name__] for name, part in model.named_modules() if not _is_head(name)]
    # The normalization is no part of the state dict.
    constants = {name: value.tolist() for name, value in model.data_preprocessor.named_buffers()}
    facts = [weights_hash(embeds), parts, constants, getattr(model, 'flip_test', False), list(pipeline)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=repr).encode()).hexdigest()


def _usable(device: str | torch.device) -> str | torch.device:
    """Return the device if it can be computed on.

    Raises:
        ValueError: this machine or this build of torch does not have it.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition('\n')[0]
        raise ValueError(f'device {str(device)!r} cannot be used ({reason}); leave it out, or choose cpu') from None
    return device


def _test_pipeline(config: Config, name: str) -> list[dict]:
    try:
        return config.test_dataloader.dataset.pipeline
    except AttributeError:
        raise ValueError(f'{name} has no test_dataloader.dataset.pipeline; pass pipeline=[...]') from None


def _in_channels(model: nn.Module) -> int:
    """Channels of the first convolution, 3 where there is none."""
    return next((part.in_channels for part in model.backbone.modules() if isinstance(part, nn.Conv2d)), 3)


def _is_head(name: str) -> bool:
    return name == 'head' or name.startswith('head.')
