"""Losses against class proxies."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmdml.structures import PairBatch, Rows
from mmdml.structures.checks import check_numbers
from mmdml.utils.numbers import check_counts

from .base import Loss
from .checks import check_class_range, check_cosine_space, check_label_targets

#: Length that shorter proxies are divided by, that of ``F.normalize``.
_SHORTEST = 1e-12


class _CosinesToDirections(torch.autograd.Function):
    r"""``(R, D)`` rows and ``(C', D)`` proxies of any length -> ``(R, C')``, :math:`x^T p / \lVert p \rVert`.

    The lengths divide the product, so that no matrix of unit proxies is made, nor its gradient: of C' D numbers only
    the gradient of the proxies is written,
    :math:`\sum_r g_{rp} (x_r - c_{rp} \, p / \lVert p \rVert) / \lVert p \rVert`.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, proxies: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(proxies, dim=1).clamp_min_(_SHORTEST)
        cosine = (rows @ proxies.t()).div_(length)
        ctx.save_for_backward(rows, proxies, length, cosine)
        return cosine

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        rows, proxies, length, cosine = ctx.saved_tensors
        scaled = gradient / length
        of_rows = scaled @ proxies if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return of_rows, None
        along = torch.linalg.vecdot(scaled, cosine, dim=0).div_(length).masked_fill_(length == _SHORTEST, 0)
        return of_rows, (proxies * -along[:, None]).addmm_(scaled.t(), rows)


class ProxyLoss(Loss):
    r"""A loss that compares rows with learned proxies of the classes.

    Every candidate is a labeled sample x, be it real, synthetic or remembered; anchors play no part of their own. With
    the cosines to all proxies, the loss is :math:`\operatorname{mean}_x \operatorname{score}(x)`. Proxies are
    directions: their length is normalized away, so weight decay changes only their step size.

    A candidate mixed from two classes is a sample of a class between them, whose proxies are mixed alike (proxy
    synthesis, Gu et al., AAAI 2021): it enlarges C for this step.

    Subclasses implement :meth:`score`, and :meth:`further_terms` where something is added that is no matter of one row
    and the proxies.

    Args:
        num_classes: number C of training classes.
        embed_dim: width D of the embedding.
        proxies_per_class: proxies of a class; those of class c are the rows from ``c * proxies_per_class`` on.

    Raises:
        ValueError: if a size is no integer of at least 1; in the forward pass, if something was mined, the pairs have
            another space than cosine or targets other than their labels, the width is another, or a label has no proxy.
    """

    #: Whether samples of classes between two can be scored.
    synthesizes_proxies: ClassVar[bool] = True

    #: Names of further parameters whose last dimension is that of the embedding.
    wide_parameters: ClassVar[tuple[str, ...]] = ()

    def __init__(self, num_classes: int, embed_dim: int, proxies_per_class: int = 1) -> None:
        super().__init__()
        sizes = dict(num_classes=num_classes, embed_dim=embed_dim, proxies_per_class=proxies_per_class)
        check_numbers(**sizes)
        check_counts(**sizes)
        self.num_classes = num_classes
        self.embed_dim = embed_dim
        self.proxies_per_class = proxies_per_class
        self.proxies = nn.Parameter(F.normalize(torch.randn(num_classes * proxies_per_class, embed_dim), dim=1))

    @abstractmethod
    def score(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """Loss of each row: ``(R, C')`` cosines to all proxies and ``(R,)`` class ids -> ``(R,)``.

        The number of classes is that of the columns, which may be more than ``num_classes``.
        """

    def further_terms(self, pairs: PairBatch, unit_proxies: Tensor) -> Tensor:
        """Scalar that is added to the mean score; here 0. Proxies are ``(C', D)`` of length 1."""
        return unit_proxies.new_zeros(())

    def unit_proxies(self) -> Tensor:
        """``(C', D)`` proxies of length 1."""
        return F.normalize(self.proxies, dim=1)

    def check_targets(self, pairs: PairBatch) -> None:
        """Refuse given targets that are soft or differ from the labels, and mixed rows that cannot be scored.

        Raises:
            ValueError: naming the loss.
        """
        if pairs.has_own_targets or pairs.candidates.shares is None:
            super().check_targets(pairs)
            check_label_targets(pairs, type(self).__name__)
        elif not self.synthesizes_proxies:
            name = f'{type(self).__name__}{" with sharded=True" if getattr(self, "sharded", False) else ""}'
            raise ValueError(f'{name} cannot use rows mixed from two classes; remove their source')

    def forward(self, pairs: PairBatch, mined: None = None, unit_proxies: Tensor | None = None) -> Tensor:
        """Scalar loss over all candidates.

        Args:
            pairs: candidates are the samples.
            mined: nothing.
            unit_proxies: ``(C', D)`` in place of :meth:`unit_proxies`, e.g. those of several losses side by side.
        """
        name, rows = type(self).__name__, pairs.candidates
        if mined is not None:
            raise ValueError(
                f'{name} compares rows with proxies and cannot use mined {type(mined).__name__}; '
                'remove the miner of the head'
            )
        check_cosine_space(pairs, name)
        proxies = self.proxies if unit_proxies is None else unit_proxies
        if rows.width != proxies.shape[1]:
            raise ValueError(f'{name} has embed_dim={proxies.shape[1]}, but the embeddings have {rows.width} columns')
        check_class_range(rows.labels, self.num_classes, name)
        dtype = torch.promote_types(pairs.dtype, proxies.dtype)
        with torch.autocast(proxies.device.type, enabled=False):
            embeddings, labels = rows.embeddings.to(dtype), rows.labels
            has_terms = type(self).further_terms is not ProxyLoss.further_terms
            if unit_proxies is None and (has_terms or rows.shares is not None):
                unit_proxies = self.unit_proxies()
            if unit_proxies is None:
                cosine = _CosinesToDirections.apply(embeddings, proxies.to(dtype))
            else:
                targets = unit_proxies = unit_proxies.to(dtype)
                if rows.shares is not None:
                    targets, labels = self._synthesized(unit_proxies, rows)
                cosine = embeddings @ targets.t()
            # Without rows all terms are 0, but hang on the graph.
            mean = self.score(cosine, labels).sum() / max(len(rows), 1)
            return mean + min(len(rows), 1) * self.further_terms(pairs, unit_proxies) if has_terms else mean

    def _synthesized(self, proxies: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return proxies with those of a class for each mixed row, and the class ids of the rows among them."""
        check_class_range(rows.second_labels, self.num_classes, type(self).__name__)
        mixed = (rows.labels != rows.second_labels).nonzero().squeeze(1)
        centers, share = proxies.unflatten(0, (self.num_classes, -1)), rows.shares[mixed, None, None].to(proxies)
        between = share * centers[rows.labels[mixed]] + (1 - share) * centers[rows.second_labels[mixed]]
        numbers = torch.arange(len(mixed), device=mixed.device) + self.num_classes
        labels = rows.labels.index_copy(0, mixed, numbers)
        return torch.cat([proxies, F.normalize(between, dim=2).flatten(0, 1)]), labels
