"""The contract of embedding layers."""

from abc import ABCMeta, abstractmethod
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdml.structures import ActiveLearner
from mmdml.structures.checks import check_numbers
from mmdml.structures.partition import Partition
from mmdml.structures.rows import unit_length
from mmdml.utils.numbers import check_counts


class EmbeddingNeck(BaseModule, metaclass=ABCMeta):
    """Base of the embedding layers: pooled features ``(B, C)`` to raw embeddings ``(B, D)``.

    Normalization is a step of its own, :meth:`unit`, because sources of candidates add raw rows. Necks with several
    learners override :meth:`unit`, :meth:`active` and :meth:`divide`; this class has one learner, the whole embedding.
    Head and hooks read the number of learners here.

    Args:
        in_channels: width C of the features, at least 1.
        embed_dim: width D of the embedding, at least 1.
        num_learners: K, final number of learners, at least 1.
        dropout: on the pooled features, in [0, 1).
        init_cfg: MMEngine's initialization config.

    Raises:
        ValueError: if a width or number is below 1, or ``dropout`` out of range.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dim: int,
        num_learners: int = 1,
        dropout: float = 0.0,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_counts(in_channels=in_channels, embed_dim=embed_dim, num_learners=num_learners)
        check_numbers(dropout=dropout)
        if not 0 <= dropout < 1:
            raise ValueError(f'dropout must be in [0, 1), got {dropout}')
        self.in_channels = in_channels
        self.embed_dim = embed_dim
        self.num_learners = num_learners
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    #: :meth:`unit` gives unit vectors. Else the head needs the space of its points.
    is_spherical = True

    #: Can be divided among several learners.
    has_learners = False

    def require_width(self, owner: str, embed_dim: int) -> None:
        """Refuse a part that is made for embeddings of another width.

        Raises:
            ValueError: naming the owner and both widths.
        """
        if embed_dim != self.embed_dim:
            raise ValueError(
                f'{owner}.embed_dim is {embed_dim}, but neck.embed_dim is {self.embed_dim}: set one to the other'
            )

    def require_sphere(self, owner: str) -> None:
        """Refuse a part that compares unit vectors where there are none.

        Raises:
            ValueError: naming the owner and the neck.
        """
        if not self.is_spherical:
            raise ValueError(f'{owner} compares unit vectors, but {type(self).__name__} gives none: remove {owner}')

    @property
    def num_active(self) -> int:
        """Learners in use, 1..K."""
        return 1

    @property
    def partition(self) -> Partition | None:
        """The slices of the K learners; None where every learner has the whole width D."""
        return None

    @property
    def learner_widths(self) -> tuple[int, ...]:
        """Width of the unit vectors of each of the K learners."""
        return self.partition.sizes if self.partition else (self.embed_dim,) * self.num_learners

    def forward(self, features: Tensor, learner: int | None = None) -> Tensor:
        """Embed pooled features.

        Args:
            features: ``(B, C)``.
            learner: the learner that the step trains, None for the whole embedding; it decides which parameters get
                gradient, never the values.

        Returns:
            ``(B, D)`` raw embeddings.

        Raises:
            ValueError: if the features are no matrix of ``in_channels`` columns.
        """
        if features.ndim != 2:
            raise ValueError(f'the neck takes pooled features (B, C), got shape {tuple(features.shape)}')
        if features.shape[1] != self.in_channels:
            raise ValueError(
                f'the backbone gives {features.shape[1]} features, but neck.in_channels is {self.in_channels}'
            )
        dtype = next(self.parameters(), features).dtype
        # Some poolings give fp32 at least, also in a model that was brought to half precision as a whole.
        if features.dtype != dtype and dtype.is_floating_point and not torch.is_autocast_enabled(features.device.type):
            features = features.to(dtype)
        return self.embed(self.dropout(features), learner)

    @abstractmethod
    def embed(self, features: Tensor, learner: int | None) -> Tensor:
        """``(B, C)`` checked features, after dropout, -> raw ``(B, D)``."""

    def unit(self, raw: Tensor, learner: int | None = None) -> Tensor:
        """Raw ``(R, D)`` -> unit rows ``(R, D)``, of the learner's own width if it has a slice; fp32 or better.

        A zero row stays zero, and gets no gradient.
        """
        return unit_length(at_least_fp32(raw))

    def active(self, learner: int) -> ActiveLearner:
        """Describe a learner to sources of candidates."""
        return ActiveLearner(learner, 1, torch.ones(self.embed_dim))

    def divide(self, num_active: int) -> list[nn.Parameter]:
        """Use more learners, each a child of one in use.

        Returns:
            The parameters that were overwritten, whose optimizer moments are void.

        Raises:
            ValueError: if the neck cannot have as many.
        """
        if num_active != 1:
            raise ValueError(f'{type(self).__name__} has one learner, got {num_active}')
        return []

    def diversity(self) -> Tensor:
        """Mean cosine between the masks of different learners, in [0, 1]; 0 where there are none."""
        return torch.zeros(())


def embedding_layer(in_channels: int, embed_dim: int) -> nn.Linear:
    """Make a linear layer with ``W`` Kaiming normal, fan-out (std ``sqrt(2 / D)``), and ``b = 0``."""
    layer = nn.Linear(in_channels, embed_dim)
    nn.init.kaiming_normal_(layer.weight, a=0, mode='fan_out')
    nn.init.zeros_(layer.bias)
    return layer


def at_least_fp32(raw: Tensor) -> Tensor:
    """Raise half precision to fp32."""
    return raw if raw.dtype.itemsize >= 4 else raw.float()
