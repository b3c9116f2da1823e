"""The embedding layer of divide and conquer (CVPR 2019, arXiv 1906.05990; TPAMI 2021, arXiv 2109.04003)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmdml.registry import MODELS
from mmdml.structures import ActiveLearner
from mmdml.structures.partition import Partition

from .base import EmbeddingNeck, at_least_fp32, embedding_layer
from .learners import LEARNERS, SliceLearners
from .mlp_embedding import hidden_layers


@MODELS.register_module()
class DivideAndConquerEmbedding(EmbeddingNeck):
    """K learners over the D neurons of one linear layer.

    Hidden layers before it, if there are any, are shared by the learners, as the backbone is. All learners are
    allocated at once, for the final K. ``num_active`` of them are in use, which is saved with the weights: 1 before the
    first division, when the layer is the plain one, bit by bit. A division copies parents to children in place;
    parameters never change shape.

    Args:
        in_channels: width C of the features, at least 1.
        embed_dim: width D of the embedding.
        num_learners: K, final number of learners, at most D.
        division: 'slices' (disjoint groups of neurons, merged as ``concat(e_1 .. e_K) / sqrt(K)``) or 'masks'
            (``normalize(z * relu(m_k))``, unmasked when merged).
        learned: for masks: train them (True) or cut the neurons by binary ones (False).
        dropout: on the pooled features, or behind every hidden layer, in [0, 1).
        hidden: widths of the hidden layers, as those of :class:`MLPEmbedding`.
        norm: of the hidden layers: 'batch', 'layer', or None.
        init_cfg: MMEngine's initialization config.

    Raises:
        ValueError: for an unknown ``division`` or ``norm``, or more learners than neurons; see also
            :class:`EmbeddingNeck`.

    Config::

        neck=dict(type='DivideAndConquerEmbedding', in_channels=2048, embed_dim=128, num_learners=8)
    """

    has_learners = True

    def __init__(
        self,
        in_channels: int,
        embed_dim: int,
        num_learners: int,
        division: str = 'slices',
        learned: bool | None = None,
        dropout: float = 0.0,
        hidden: Sequence[int] = (),
        norm: str | None = 'layer',
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(in_channels, embed_dim, num_learners, 0.0 if hidden else dropout, init_cfg)
        if division not in LEARNERS:
            raise ValueError(f'division must be one of {sorted(LEARNERS)}, got {division!r}')
        if learned is not None and division != 'masks':
            raise ValueError("learned is an option of division='masks'")
        # A buffer, because it decides how the weights are read: it has to be loaded with them.
        self.register_buffer('active_learners', torch.ones((), dtype=torch.int64))
        self._num_active = 1
        options = {} if learned is None else dict(learned=learned)
        # None, not an Identity: models without hidden layers keep the hash that their galleries were made with.
        self.hidden = hidden_layers(in_channels, hidden, norm, dropout) if hidden else None
        layer = embedding_layer(hidden[-1] if hidden else in_channels, embed_dim)
        self.learners = LEARNERS[division](layer, num_learners, **options)

    @property
    def num_active(self) -> int:
        return self._num_active

    @property
    def partition(self) -> Partition | None:
        return self.learners.partition if isinstance(self.learners, SliceLearners) else None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        # The forward pass reads a Python number: reading the buffer would wait for the accelerator.
        self._num_active = int(self.active_learners)

    def embed(self, features: Tensor, learner: int | None) -> Tensor:
        """``(B, C)`` -> raw ``(B, D)``; gradient reaches the rows of ``learner`` only, of all learners for None."""
        features = features if self.hidden is None else self.hidden(features)
        return self.learners.linear(features, learner, self.num_active)

    def unit(self, raw: Tensor, learner: int | None = None) -> Tensor:
        """Raw ``(R, D)`` -> unit rows of one learner, or of the merged embedding for None; fp32 or better."""
        return self.learners.unit(at_least_fp32(raw), learner, self.num_active)

    def active(self, learner: int) -> ActiveLearner:
        return ActiveLearner(learner, self.num_active, self.learners.scale(learner, self.num_active))

    def diversity(self) -> Tensor:
        """Mean cosine between the masks of different learners, in [0, 1]; 0 for slices and for one learner."""
        return self.learners.diversity(self.num_active)

    def divide(self, num_active: int) -> list[nn.Parameter]:
        """Use more learners; the children of learner j are ``j r .. j r + r - 1`` with ``r = new / old``.

        Returns:
            The parameters that were overwritten: learned masks, none of slices.

        Raises:
            ValueError: if the new number is no multiple of the old one, or beyond ``num_learners``.
        """
        if num_active % self.num_active or num_active > self.num_learners:
            raise ValueError(
                f'{self.num_active} learners can become a multiple of that, at most {self.num_learners}, '
                f'got {num_active}'
            )
        if num_active == self.num_active:
            return []
        overwritten = self.learners.divide(self.num_active, num_active)
        self.active_learners.fill_(num_active)
        self._num_active = num_active
        return overwritten
