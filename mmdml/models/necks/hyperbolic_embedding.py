"""The embedding layer of hyperbolic vision transformers."""

from typing import Any

import torch
from torch import Tensor, nn

from mmdml.registry import MODELS
from mmdml.structures.checks import check_positive

from .base import at_least_fp32
from .linear_embedding import LinearEmbedding

#: Shortest raw row that is divided by its length.
_SHORTEST = 1e-5

#: Largest argument of tanh: 1 - tanh(6)^2 = 2.5e-5 has two to three digits in fp32, and tanh(9) is 1.
_FARTHEST = 6.0


@MODELS.register_module()
class HyperbolicEmbedding(LinearEmbedding):
    r"""One linear layer, and points of the unit ball in place of unit vectors.

    Hyp-ViT: Ermolov et al., *Hyperbolic Vision Transformers*, CVPR 2022: raw rows z are clipped to the radius r (Guo et
    al., CVPR 2022) and mapped from the tangent space at the center to the Poincaré ball of curvature -c by the
    exponential map, here multiplied by :math:`\sqrt c`, which makes its radius 1:

    .. math:: z' = z \min(1, r / |z|), \qquad x = \tanh(\sqrt c |z'|) \frac{z'}{|z'|}

    so that :math:`|x| \le \tanh(\sqrt c r)`. W is orthogonal and b = 0 at first, as in the authors' code. The space
    of the head must be :class:`~mmdml.models.PoincareBall`, the distance of the evaluation 'hyperbolic'.

    Args:
        in_channels: width C of the features, at least 1.
        embed_dim: width D of the embedding, at least 1; 128 in the paper.
        curvature: c > 0; 0.1 in the paper.
        clip_radius: r > 0; 2.3 in the paper.
        dropout: on the pooled features, in [0, 1).
        init_cfg: MMEngine's initialization config, applied over the one above.

    Raises:
        ValueError: if ``curvature`` or ``clip_radius`` is not positive, or :math:`\sqrt c r > 6`; see also
            :class:`EmbeddingNeck`.

    Config::

        neck=dict(type='HyperbolicEmbedding', in_channels=384, embed_dim=128, curvature=0.1, clip_radius=2.3)
    """

    is_spherical = False

    def __init__(
        self,
        in_channels: int,
        embed_dim: int,
        curvature: float = 0.1,
        clip_radius: float = 2.3,
        dropout: float = 0.0,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(in_channels, embed_dim, dropout, init_cfg)
        check_positive(curvature=curvature, clip_radius=clip_radius)
        if curvature**0.5 * clip_radius > _FARTHEST:
            raise ValueError(
                f'clip_radius={clip_radius} at curvature={curvature} reaches points that fp32 cannot tell from the rim '
                f'of the ball: clip_radius must be at most {_FARTHEST / curvature**0.5:.3g}'
            )
        self.curvature = curvature
        self.clip_radius = clip_radius
        nn.init.orthogonal_(self.linear.weight)

    def unit(self, raw: Tensor, learner: int | None = None) -> Tensor:
        """Raw ``(R, D)`` -> ``(R, D)`` points of the unit ball; fp32 or better. A zero row stays zero."""
        raw = at_least_fp32(raw)
        length = raw.norm(dim=1, keepdim=True).clamp_min(_SHORTEST)
        return torch.tanh(self.curvature**0.5 * length.clamp_max(self.clip_radius)) * raw / length
