"""Proxy-NCA loss."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmdml.registry import MODELS
from mmdml.structures import PairBatch
from mmdml.structures.partition import Partition

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

    Where an embedding is divided into slices (D&C, CVPR 2019), a learner's proxies live in its slice: with
    ``num_slices=K`` every slice has a table of its own, which a step that trains another learner leaves alone, and the
    merged embedding is compared with the proxies merged alike, ``concat(p_1 .. p_K) / sqrt(K)``.

    Args:
        num_classes: number C of training classes; one proxy each.
        embed_dim: width D of the embedding.
        scale: length of rows and proxies; the logits are ``2 * scale**2`` times the cosine similarity.
        num_slices: K of ``DivideAndConquerEmbedding(division='slices')``; 1 for plain embeddings and for masks.

    Raises:
        ValueError: if ``num_classes`` is below 2 or ``scale`` is not positive; in the forward pass, if something was
            mined, the width is another, or a label has no proxy.

    Example:
        >>> loss = dict(type='ProxyNCALoss', num_classes=100, embed_dim=512)
        >>> head = dict(type='DivideAndConquerHead', num_learners=4, loss=dict(
        ...     type='ProxyNCALoss', num_classes=100, embed_dim=128, num_slices=4))
    """

    def __init__(self, num_classes: int, embed_dim: int, scale: float = 3.0, num_slices: int = 1) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f'num_classes must be 2 or more, for there to be another proxy, got {num_classes}')
        if scale <= 0:
            raise ValueError(f'scale must be positive, got {scale}')
        self.num_classes = num_classes
        self.embed_dim = embed_dim
        self.scale = scale
        if num_slices == 1:
            self.proxies = nn.Parameter(F.normalize(torch.randn(num_classes, embed_dim), dim=1))
        else:
            widths = Partition(embed_dim, num_slices).sizes
            #: Losses of the learners.
            self.slices = nn.ModuleList([ProxyNCALoss(num_classes, width, scale) for width in widths])

    def extra_repr(self) -> str:
        return f'num_classes={self.num_classes}, embed_dim={self.embed_dim}, scale={self.scale}'

    def unit_proxies(self) -> Tensor:
        """``(C, D)`` proxies of length 1."""
        if hasattr(self, 'slices'):
            return torch.cat([part.unit_proxies() for part in self.slices], dim=1) / len(self.slices) ** 0.5
        return F.normalize(self.proxies, dim=1)

    def forward(self, pairs: PairBatch, mined: None = None) -> Tensor:
        """Scalar loss over all candidates."""
        rows, labels = pairs.candidates.embeddings, pairs.candidates.labels
        if mined is not None:
            raise ValueError(
                f'ProxyNCALoss compares rows with proxies and cannot use mined {type(mined).__name__}; '
                'remove the miner of the head'
            )
        if rows.shape[1] != self.embed_dim:
            raise ValueError(
                f'ProxyNCALoss has embed_dim={self.embed_dim}, but the embeddings have {rows.shape[1]} columns '
                '(slices of a divided embedding need num_slices)'
            )
        check_class_range(labels, self.num_classes, 'ProxyNCALoss')
        with torch.autocast(rows.device.type, enabled=False):
            proxies = self.unit_proxies()
            cosine = rows.to(proxies.dtype) @ proxies.t()
        # The squared distance is scale^2 (2 - 2 cos); its constant cancels in the quotient.
        logits = 2 * self.scale**2 * cosine
        own = labels[:, None]
        others = logits.scatter(1, own, float('-inf')).logsumexp(1)
        return (others - logits.gather(1, own).squeeze(1)).sum() / max(len(rows), 1)
