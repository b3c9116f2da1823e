"""No embedding layer: the pooled features are the embedding."""

from torch import Tensor

from mmdml.registry import MODELS

from .base import EmbeddingNeck


@MODELS.register_module()
class IdentityEmbedding(EmbeddingNeck):
    """Pass pooled features on as the raw embedding, ``z = f``: a backbone scored as it is, or trained without a layer.

    Args:
        in_channels: width C of the features, which is that of the embedding, at least 1.

    Raises:
        ValueError: see :class:`EmbeddingNeck`.

    Config::

        neck=dict(type='IdentityEmbedding', in_channels=2048)
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels, in_channels)

    def embed(self, features: Tensor, learner: int | None) -> Tensor:
        return features
