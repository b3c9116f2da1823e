"""Proxy-NCA loss."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmdml.registry import MODELS
from mmdml.structures import PairBatch

from .class_range import check_class_range


@MODELS.register_module()
class ProxyNCALoss(nn.Module):
    r"""Proxy-NCA: every row near the proxy of its class, far from all others.

    Movshovitz-Attias et al., ICCV 2017; reported on CUB by Sanakoyeu et al., CVPR 2019. With rows x and proxies p of
    length ``scale``,

    .. math:: L = -\operatorname{mean}_x \ln
        \frac{e^{-\lVert x - p_y \rVert^2}}{\sum_{z \neq y} e^{-\lVert x - p_z \rVert^2}}

    The own proxy is not in the denominator, so the loss may be negative. Every candidate is a labelled sample: real,
    synthetic and remembered rows alike; anchors play no part of their own. All proxies stay in the sum, those of
    classes that a learner never sees included.

    Not a :class:`~mmdml.models.losses.PairLoss`: it has no pairs to choose or to mine. Proxies are directions; their
    length is normalised away, so weight decay changes only their step size.

    Args:
        num_classes: number C of training classes; one proxy each.
        embed_dim: width D of the compared vectors: of one learner's slice, where there are slices.
        scale: length of rows and proxies; the logits are ``2 * scale**2`` times the cosine similarity.

    Raises:
        ValueError: if ``num_classes`` is below 2 or ``scale`` is not positive; in the forward pass, if something was
            mined, the width is another, or a label has no proxy.

    Example:
        >>> loss = dict(type='ProxyNCALoss', num_classes=100, embed_dim=512)
    """

    def __init__(self, num_classes: int, embed_dim: int, scale: float = 3.0) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f'num_classes must be 2 or more, for there to be another proxy, got {num_classes}')
        if scale <= 0:
            raise ValueError(f'scale must be positive, got {scale}')
        self.scale = scale
        self.proxies = nn.Parameter(F.normalize(torch.randn(num_classes, embed_dim), dim=1))

    def extra_repr(self) -> str:
        return f'num_classes={len(self.proxies)}, embed_dim={self.proxies.shape[1]}, scale={self.scale}'

    def forward(self, pairs: PairBatch, mined: None = None) -> Tensor:
        """Scalar loss over all candidates."""
        rows, labels = pairs.candidates, pairs.candidate_labels
        if mined is not None:
            raise ValueError(
                f'ProxyNCALoss compares rows with proxies and cannot use mined {type(mined).__name__}; '
                'remove the miner of the head'
            )
        if rows.shape[1] != self.proxies.shape[1]:
            raise ValueError(
                f'ProxyNCALoss has embed_dim={self.proxies.shape[1]}, but the embeddings have {rows.shape[1]} columns'
            )
        check_class_range(labels, len(self.proxies), 'ProxyNCALoss')
        with torch.autocast(rows.device.type, enabled=False):
            cosine = rows.to(self.proxies.dtype) @ F.normalize(self.proxies, dim=1).t()
        # The squared distance is scale^2 (2 - 2 cos); its constant cancels in the quotient.
        logits = 2 * self.scale**2 * cosine
        own = labels[:, None]
        others = logits.scatter(1, own, float('-inf')).logsumexp(1)
        return (others - logits.gather(1, own).squeeze(1)).sum() / max(len(rows), 1)
