"""The embedding layer."""

from typing import Any

from torch import Tensor

from mmdml.registry import MODELS

from .base import EmbeddingNeck, embedding_layer


@MODELS.register_module()
class LinearEmbedding(EmbeddingNeck):
    """One linear layer from pooled features to the raw embedding.

    ``z = W f + b`` with ``W`` Kaiming normal, fan-out (std ``sqrt(2 / D)``), and ``b = 0``: the head of IAA (T-MM 2022)
    and of most of the field. The output is raw; :meth:`unit` normalizes it.

    Args:
        in_channels: width C of the features, at least 1.
        embed_dim: width D of the embedding, at least 1.
        dropout: on the pooled features, in [0, 1).
        init_cfg: MMEngine's initialization config, applied over the one above.

    Raises:
        ValueError: see :class:`EmbeddingNeck`.

    Config::

        neck=dict(type='LinearEmbedding', in_channels=2048, embed_dim=512)
    """

    def __init__(
        self, in_channels: int, embed_dim: int, dropout: float = 0.0, init_cfg: dict[str, Any] | None = None
    ) -> None:
        super().__init__(in_channels, embed_dim, dropout=dropout, init_cfg=init_cfg)
        self.linear = embedding_layer(in_channels, embed_dim)

    def embed(self, features: Tensor, learner: int | None) -> Tensor:
        return self.linear(features)
