"""Pictures in, unit vectors out."""

# An exported file is embedded with in a process without torch: nothing here imports it.
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmdml.apis.embedder import Embedder, find_embedder
from mmdml.apis.image_inputs import ImageInput, ImageInputs, decoded, image_inputs
from mmdml.apis.model_index import DEFAULT
from mmdml.compat.memory import keep_freed_memory
from mmdml.utils.machine import available_cores
from mmdml.utils.names import printable
from mmdml.utils.progress import ProgressLine

# Pictures that a thread reads at a time.
_HANDED = 8

if TYPE_CHECKING:
    import torch
    from mmengine.config import Config

    from mmdml.models import ImageEmbedder


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
    bit, with the batch size of the config. On Linux the process keeps the memory of decoded pictures for the next ones,
    see :func:`~mmdml.compat.memory.keep_freed_memory`.

    Args:
        model: a name, as :func:`~mmdml.apis.model_names.find_model` takes it; a config; or a built embedder.
        pretrained: as :func:`~mmdml.apis.get_model` has it: True for the weights that belong to the name, or the path
            of a checkpoint. False embeds with the untrained model: the pretrained backbone that the config's
            ``init_cfg`` names, as ``tools/test.py`` does without a checkpoint. A built embedder and an exported file
            keep the weights they have.
        pipeline: transforms from a file to the model's input. Default: those of the config's ``test_dataloader``.
            Needed with a built embedder; an exported file has its own.
        device: where to compute. Default: the GPU where there is one; a built embedder stays where it is.
        batch_size: pictures at a time.
        workers: threads that read and decode. Default: one for each core that this process may use.
        progress: show a line with the time left on stderr; where that is no terminal, one every half minute.

    Attributes:
        embedder: the model, see :class:`~mmdml.apis.embedder.Embedder`.

    Raises:
        ValueError: a built embedder without ``pipeline``, a config without one, or a number below 1; see also
            :func:`~mmdml.apis.get_model`.

    Example:
        >>> import numpy as np
        >>> from mmdml.apis import ImageEmbeddingInferencer
        >>> embed = ImageEmbeddingInferencer('ms_conv4_omniglot:untrained', progress=False)
        >>> embed([np.zeros((28, 28), np.uint8), np.full((28, 28), 255, np.uint8)]).embeddings.shape
        (2, 128)
    """

    def __init__(
        self,
        model: str | Path | Config | ImageEmbedder = DEFAULT,
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
        # Pictures of several megabytes take half of their time otherwise.
        keep_freed_memory()
        self.embedder: Embedder = find_embedder(model, pretrained, pipeline, device)
        self.batch_size, self.workers, self.progress = batch_size, workers, progress

    @property
    def model_hash(self) -> str:
        """SHA-256 of all that makes an embedding of a file: weights, parts, normalization and pipeline, not the head.

        It is taken anew at each call: training the model further changes it.
        """
        return self.embedder.model_hash

    @property
    def dimensions(self) -> int:
        """Length of an embedding."""
        return self.embedder.dimensions

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
        for name, read in self._read_ahead(images, 2 * batch_size):
            if isinstance(read, UnreadableImage):
                unreadable.append(read)
            else:
                ready.append((name, read))
            if len(ready) == batch_size:
                yield self._embed(ready, unreadable)
                ready, unreadable = [], []
        if ready or unreadable:
            yield self._embed(ready, unreadable)

    def _read_ahead(self, images: Iterator[ImageInput], number: int) -> Iterator[tuple[str, Any]]:
        """Yield names in order with what :meth:`_read` returns, about ``number`` pictures ahead."""
        # Few at a time: handing a picture from thread to thread costs a third of decoding a small one.
        size = max(1, min(_HANDED, number // (4 * self.workers)))
        parts = iter(lambda: list(islice(images, size)), [])
        # OpenCV and Pillow decode and resize outside of Python's lock.
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix='read images')
        try:
            waiting = deque(pool.submit(self._read_some, part) for part in islice(parts, -(-number // size)))
            while waiting:
                yield from waiting.popleft().result()
                waiting.extend(pool.submit(self._read_some, part) for part in islice(parts, 1))
        finally:
            pool.shutdown(cancel_futures=True)

    def _read_some(self, images: list[ImageInput]) -> list[tuple[str, Any]]:
        return [(image.name, self._read(image)) for image in images]

    def _read(self, image: ImageInput) -> Any:
        """Return what the model takes of a picture, or why it cannot be read."""
        embedder = self.embedder
        try:
            if isinstance(image.source, str):
                return embedder.prepare(embedder.read(image.source))
            return embedder.prepare(decoded(image.source, embedder.gray))
        except Exception as error:
            return UnreadableImage(image.name, _reason(error))

    def _embed(self, ready: list[tuple[str, Any]], unreadable: list[UnreadableImage]) -> EmbeddedImages:
        if not ready:
            return EmbeddedImages(np.empty((0, self.dimensions), np.float32), [], unreadable)
        names, prepared = zip(*ready, strict=True)
        return EmbeddedImages(self.embedder.embed(prepared), list(names), unreadable)


def _reason(error: Exception) -> str:
    text = printable(' '.join(str(error).split()))
    return text if isinstance(error, ValueError) else f'{type(error).__name__}: {text}'
