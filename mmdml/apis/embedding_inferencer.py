"""Pictures in, unit vectors out."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from torch import nn

from mmdml.apis.image_inputs import ImageInput, ImageInputs, image_inputs
from mmdml.apis.image_reader import ImageReader
from mmdml.apis.models import get_config, get_model
from mmdml.models import ImageEmbedder
from mmdml.utils.machine import available_cores
from mmdml.utils.names import printable
from mmdml.utils.progress import ProgressLine
from mmdml.utils.weights_hash import weights_hash


@dataclass(frozen=True)
class UnreadableImage:
    """A picture without an embedding.

    Attributes:
        name: as the embeddings are named.
        reason: what went wrong, in one line.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class EmbeddedImages:
    """Embeddings of pictures, in the order of the inputs.

    Attributes:
        embeddings: ``(N, D)`` float32, rows of length 1.
        names: ``N`` paths, or ``'image'`` and a number where there was none.
        unreadable: the pictures that could not be embedded, with their reasons.
    """

    embeddings: np.ndarray
    names: list[str]
    unreadable: list[UnreadableImage]


class ImageEmbeddingInferencer:
    """Embed pictures as the model's test pipeline prepares them.

    On the CPU the rows are those that ``tools/test.py --out`` writes for the same pictures in the same order, bit by
    bit, with the batch size of the config.

    Args:
        model: what :func:`~mmdml.apis.get_model` takes, or a built embedder.
        pretrained: as :func:`~mmdml.apis.get_model` has it: the path of a checkpoint, or True for the published
            weights. False embeds with the untrained model: the pretrained backbone that the config's ``init_cfg``
            names, as ``tools/test.py`` does without a checkpoint. A built embedder keeps the weights it has.
        pipeline: transforms from a file to the model's input. Default: those of the config's ``test_dataloader``.
            Needed with a built embedder.
        device: where to compute. Default: the GPU where there is one; a built embedder stays where it is.
        batch_size: pictures at a time.
        workers: threads that read and decode. Default: one for each core that this process may use.
        progress: show a line with the time left on stderr; where that is no terminal, one every half minute.

    Raises:
        ValueError: a built embedder without ``pipeline``, a config without one, or a number below 1; see also
            :func:`~mmdml.apis.get_model`.

    Example:
        >>> import numpy as np
        >>> from mmdml.apis import ImageEmbeddingInferencer
        >>> embed = ImageEmbeddingInferencer('ms_conv4_omniglot', pretrained=False, progress=False)
        >>> embed([np.zeros((28, 28), np.uint8), np.full((28, 28), 255, np.uint8)]).embeddings.shape
        (2, 128)
    """

    def __init__(
        self,
        model: str | Path | Config | ImageEmbedder,
        pretrained: bool | str | Path = True,
        pipeline: Sequence[dict | Callable] | None = None,
        device: str | torch.device | None = None,
        batch_size: int = 32,
        workers: int | None = None,
        progress: bool = True,
    ) -> None:
        workers = available_cores() if workers is None else workers
        for name, value in (('batch_size', batch_size), ('workers', workers)):
            if value < 1:
                raise ValueError(f'{name}={value} must be 1 or more')
        built = isinstance(model, nn.Module)
        if pipeline is None:
            pipeline = _test_pipeline(model)
        self.model = model if built else _loaded(model, pretrained)
        if device is not None or not built:
            self.model.to(device if device is not None else get_device())
        self.model.eval()
        self.batch_size, self.workers, self.progress = batch_size, workers, progress
        self._described = [each if isinstance(each, dict) else repr(each) for each in pipeline]
        self._reader = ImageReader(pipeline, workers, gray=_in_channels(self.model) == 1)

    @property
    def model_hash(self) -> str:
        """SHA-256 of all that makes an embedding of a file: weights, parts, normalization and pipeline, not the head.

        It is taken anew at each call: training the model further changes it.
        """
        embeds = {key: value for key, value in self.model.state_dict().items() if not key.startswith('head.')}
        parts = [[name, type(part).__name__] for name, part in self.model.named_modules() if not _is_head(name)]
        # The normalization is no part of the state dict.
        constants = {name: value.tolist() for name, value in self.model.data_preprocessor.named_buffers()}
        facts = [weights_hash(embeds), parts, constants, getattr(self.model, 'flip_test', False), self._described]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=repr).encode()).hexdigest()

    @property
    def transforms(self) -> list[Callable]:
        """Built transforms from a file to the model's input, the first of which loads."""
        return self._reader.transforms

    @property
    def dimensions(self) -> int:
        """Length of an embedding."""
        return self.model.neck.embed_dim

    def __call__(self, inputs: ImageInputs, batch_size: int | None = None) -> EmbeddedImages:
        """Embed pictures.

        Args:
            inputs: a path, a folder, an array, a PIL image, or an iterable of these; see
                :func:`~mmdml.apis.image_inputs.image_inputs`.
            batch_size: pictures at a time. Default: that of the inferencer.

        Raises:
            TypeError: something else is among the inputs.
            ValueError: the pipeline makes inputs of several sizes.
        """
        parts = list(self.stream(inputs, batch_size))
        rows = [part.embeddings for part in parts]
        return EmbeddedImages(
            np.concatenate(rows) if rows else np.empty((0, self.dimensions), np.float32),
            [name for part in parts for name in part.names],
            [each for part in parts for each in part.unreadable],
        )

    def stream(self, inputs: ImageInputs, batch_size: int | None = None) -> Iterator[EmbeddedImages]:
        """Embed pictures batch by batch, so that neither inputs nor embeddings need to fit into memory.

        Args:
            inputs: as in a call.
            batch_size: as in a call.

        Yields:
            The embeddings of up to ``batch_size`` pictures, and what was unreadable on the way to them.
        """
        batch_size = self.batch_size if batch_size is None else batch_size
        if batch_size < 1:
            raise ValueError(f'batch_size={batch_size} must be 1 or more')
        images = image_inputs(inputs)
        if not isinstance(inputs, Iterator):
            # All is there: mistakes end the call before anything is embedded, and the time left can be shown.
            images = list(images)
        if not self.progress:
            yield from self._stream(iter(images), batch_size)
            return
        with ProgressLine('images', len(images) if isinstance(images, list) else None) as line:
            for part in self._stream(iter(images), batch_size):
                line.add(len(part.names) + len(part.unreadable))
                yield part

    def _stream(self, images: Iterator[ImageInput], batch_size: int) -> Iterator[EmbeddedImages]:
        ready, unreadable = [], []
        # The next batch is read while this one is computed.
        for image, read in self._reader.read_ahead(images, 2 * batch_size):
            try:
                ready.append((image.name, read.result()))
            except Exception as error:
                unreadable.append(UnreadableImage(image.name, _reason(error)))
            if len(ready) == batch_size:
                yield self._embed(ready, unreadable)
                ready, unreadable = [], []
        if ready or unreadable:
            yield self._embed(ready, unreadable)

    @torch.no_grad()
    def _embed(self, ready: list[tuple[str, dict[str, Any]]], unreadable: list[UnreadableImage]) -> EmbeddedImages:
        if not ready:
            return EmbeddedImages(np.empty((0, self.dimensions), np.float32), [], unreadable)
        names, items = zip(*ready, strict=True)
        inputs = [item['inputs'] for item in items]
        if len({each.shape for each in inputs}) > 1:
            raise ValueError(
                f'the pipeline makes inputs of several sizes, e.g. {tuple(inputs[0].shape)} of {printable(names[0])}; '
                'let it end in a crop or resize to one size, or embed with batch_size=1'
            )
        batch = dict(inputs=torch.stack(inputs), data_samples=[item['data_samples'] for item in items])
        found = self.model.test_step(batch)
        rows = torch.stack([sample.embedding for sample in found])
        return EmbeddedImages(rows.float().cpu().numpy(), list(names), unreadable)


def _loaded(model: str | Path | Config, pretrained: bool | str | Path) -> ImageEmbedder:
    embedder = get_model(model, pretrained)
    if not pretrained:
        embedder.init_weights()
    return embedder


def _test_pipeline(model: str | Path | Config | nn.Module) -> list[dict]:
    if isinstance(model, nn.Module):
        raise ValueError('a built embedder comes without its pre-processing: pass pipeline=[...]')
    try:
        return get_config(model).test_dataloader.dataset.pipeline
    except AttributeError:
        raise ValueError(
            f'{model if isinstance(model, str | Path) else "the config"} has no test_dataloader.dataset.pipeline; pass '
            'pipeline=[...]'
        ) from None


def _in_channels(model: nn.Module) -> int:
    """Channels of the first convolution, 3 where there is none."""
    return next((part.in_channels for part in model.backbone.modules() if isinstance(part, nn.Conv2d)), 3)


def _is_head(name: str) -> bool:
    return name == 'head' or name.startswith('head.')


def _reason(error: Exception) -> str:
    text = printable(' '.join(str(error).split()))
    return text if isinstance(error, ValueError) else f'{type(error).__name__}: {text}'
