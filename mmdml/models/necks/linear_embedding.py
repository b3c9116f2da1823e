"""The embedding layer."""

from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from mmdml.registry import MODELS


@MODELS.register_module()
class LinearEmbedding(BaseModule):
    """One linear layer from pooled features to the raw embedding.

    ``z = W f + b`` with ``W`` Kaiming normal, fan-out (std ``sqrt(2 / D)``), and ``b = 0``: the head of IAA (T-MM 2022)
    and of most of the field. The output is raw; :meth:`unit` normalises it.

    Args:
        in_channels: width C of the features.
        embed_dim: width D of the embedding.
        dropout: on the pooled features, in [0, 1).
        init_cfg: MMEngine's initialisation config, applied over the one above.

    Config::

        neck=dict(type='LinearEmbedding', in_channels=2048, embed_dim=512)
    """

    def __init__(
        self, in_channels: int, embed_dim: int, dropout: float = 0.0, init_cfg: dict[str, Any] | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.embed_dim = embed_dim
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.linear = nn.Linear(in_channels, embed_dim)
        nn.init.kaiming_normal_(self.linear.weight, a=0, mode='fan_out')
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor, learner: int | None = None) -> Tensor:
        """``(B, C)`` -> raw ``(B, D)``; there is one learner.

        Raises:
            ValueError: if the backbone gives another width than ``in_channels``.
        """
        if features.shape[1] != self.linear.in_features:
            raise ValueError(
                f'the backbone gives {features.shape[1]} features, but neck.in_channels is {self.linear.in_features}'
            )
        return self.linear(self.dropout(features))

    def unit(self, raw: Tensor, learner: int | None = None) -> Tensor:
        """Raw ``(R, D)`` -> unit rows ``(R, D)``, in fp32 or better; a zero row stays zero.

        Args:
            raw: raw embeddings.
            learner: active learner of necks that have several; this one has one.
        """
        raw = raw if raw.dtype.itemsize >= 4 else raw.float()
        return F.normalize(raw, dim=1)
