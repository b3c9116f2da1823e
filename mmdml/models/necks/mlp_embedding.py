"""Embedding layers with hidden ones before them."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mmdml.registry import MODELS
from mmdml.structures.checks import check_numbers

from .base import EmbeddingNeck, embedding_layer

#: Values of ``norm``: what is made of a width.
_NORMS = {'batch': nn.BatchNorm1d, 'layer': nn.LayerNorm, None: lambda width: nn.Identity()}


@MODELS.register_module()
class MLPEmbedding(EmbeddingNeck):
    """Hidden layers, then the embedding layer: ``z = W h_n + b``, ``h_i = dropout(relu(norm(W_i h_{i-1} + b_i)))``.

    Args:
        in_channels: width C of the features, at least 1.
        embed_dim: width D of the embedding, at least 1.
        hidden: widths of the hidden layers, at least one.
        norm: 'batch', 'layer', or None for no normalization of the hidden layers.
        dropout: behind every hidden layer, in [0, 1).
        init_cfg: MMEngine's initialization config.

    Raises:
        ValueError: for no or an empty hidden layer, or an unknown ``norm``; see also :class:`EmbeddingNeck`.

    Config::

        neck=dict(type='MLPEmbedding', in_channels=1280, embed_dim=512, hidden=(1024,), norm='layer', dropout=0.1)
    """

    def __init__(
        self,
        in_channels: int,
        embed_dim: int,
        hidden: Sequence[int] = (1024,),
        norm: str | None = 'layer',
        dropout: float = 0.0,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(in_channels, embed_dim, init_cfg=init_cfg)
        self.hidden = hidden_layers(in_channels, hidden, norm, dropout)
        self.linear = embedding_layer(hidden[-1], embed_dim)

    def embed(self, features: Tensor, learner: int | None) -> Tensor:
        return self.linear(self.hidden(features))


@MODELS.register_module()
class ResidualEmbedding(EmbeddingNeck):
    """Features plus a correction: ``z = f + W h(f) + b`` with ``W = 0``, ``b = 0`` at first.

    Training starts at the frozen features' own retrieval, and the embedding is as wide as they are (an adapter as of
    Gao et al., CLIP-Adapter, arXiv 2110.04544, without the fixed ratio).

    Args:
        in_channels: width C of the features, which is that of the embedding, at least 1.
        hidden: widths of the hidden layers, at least one; see :class:`MLPEmbedding`.
        norm: as in :class:`MLPEmbedding`.
        dropout: behind every hidden layer, in [0, 1).
        init_cfg: MMEngine's initialization config.

    Raises:
        ValueError: see :class:`MLPEmbedding`.

    Config::

        neck=dict(type='ResidualEmbedding', in_channels=1280, hidden=(320,))
    """

    def __init__(
        self,
        in_channels: int,
        hidden: Sequence[int] = (256,),
        norm: str | None = None,
        dropout: float = 0.0,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(in_channels, in_channels, init_cfg=init_cfg)
        self.hidden = hidden_layers(in_channels, hidden, norm, dropout)
        self.linear = nn.Linear(hidden[-1], in_channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def embed(self, features: Tensor, learner: int | None) -> Tensor:
        return features + self.linear(self.hidden(features))


def hidden_layers(in_channels: int, widths: Sequence[int], norm: str | None, dropout: float) -> nn.Sequential:
    """Make linear layers (Kaiming normal, fan-in), each with normalization, ReLU and dropout.

    Raises:
        ValueError: for no layer, a width below 1 or alone, a dropout out of range, or an unknown normalization.
    """
    if not isinstance(widths, Sequence) or not all(isinstance(width, int) for width in widths):
        raise ValueError(f'hidden must be a list of whole numbers, one a layer, such as [512], got {widths!r}')
    if not widths or min(widths) < 1:
        raise ValueError(f'hidden must be one width or more, each at least 1, got {tuple(widths)}')
    check_numbers(dropout=dropout)
    if not 0 <= dropout < 1:
        raise ValueError(f'dropout must be in [0, 1), got {dropout}')
    if norm not in _NORMS:
        raise ValueError(f'norm must be one of {list(_NORMS)}, got {norm!r}')
    layers: list[nn.Module] = []
    for width in widths:
        linear = nn.Linear(in_channels, width)
        nn.init.kaiming_normal_(linear.weight, nonlinearity='relu')
        nn.init.zeros_(linear.bias)
        layers += [linear, _NORMS[norm](width), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        in_channels = width
    return nn.Sequential(*layers)
