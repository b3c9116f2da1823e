"""Embeddings of the training set, and the contract of the parts that receive them."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from .progress import Progress


@dataclass
class Embeddings:
    """Embeddings of training images, the same on every rank.

    Attributes:
        raw: ``(N, D)`` raw embeddings, fp32.
        labels: ``(N,)`` int64 class ids.
        indices: ``(N,)`` int64 dataset indices, rising.
        num_classes: classes of the dataset; some may have no row here.
        features: ``(N, C)`` pooled backbone features, None unless requested.
    """

    raw: Tensor
    labels: Tensor
    indices: Tensor
    num_classes: int
    features: Tensor | None = None


@runtime_checkable
class EmbeddingSubscriber(Protocol):
    """A hook, or a module of the model, that ``SweepHook`` serves.

    Attributes:
        embedding_source: 'sweep' (a pass over the training set) or 'bank' (rows that training computed anyway).
        sweep_transform: 'train', 'test', or None: 'train' unless another subscriber of the same moment needs 'test'.
    """

    embedding_source: str
    sweep_transform: str | None

    def embeddings_due(self, progress: Progress) -> bool:
        """Whether embeddings are due before this iteration."""

    def receive_embeddings(self, embeddings: Embeddings, progress: Progress) -> None:
        """Use the embeddings."""
