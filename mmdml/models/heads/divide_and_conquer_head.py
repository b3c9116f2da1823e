"""Any loss, any source of candidates, applied to the active learner."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmdml.models.losses import ProxyLoss
from mmdml.models.losses.widths import check_slices
from mmdml.models.necks import EmbeddingNeck
from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch

from .embedding_head import EmbeddingHead


class SlicedProxyLoss(nn.Module):
    """A class-based loss over an embedding that is cut into K slices.

    Every slice has proxies of its own, which a step that trains another learner leaves alone. The merged embedding
    ``concat(e_1 .. e_K) / sqrt(K)`` is compared with the proxies joined alike, ``concat(p_1 .. p_K) / sqrt(K)``. Other
    parameters of the loss are joined if they are as wide as the slice, else averaged.

    Args:
        losses: the losses of the slices, in their order.
    """

    def __init__(self, losses: Sequence[ProxyLoss]) -> None:
        super().__init__()
        self.slices = nn.ModuleList(losses)

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss of the merged embedding."""
        joined = torch.cat([part.unit_proxies() for part in self.slices], dim=1) / len(self.slices) ** 0.5
        further = {name: self._joined(name) for name, _ in self.slices[0].named_parameters() if name != 'proxies'}
        return torch.func.functional_call(self.slices[0], further, (pairs, mined), dict(unit_proxies=joined))

    def _joined(self, name: str) -> Tensor:
        parts = [part.get_parameter(name) for part in self.slices]
        return torch.cat(parts, -1) if name in self.slices[0].wide_parameters else torch.stack(parts).mean(0)


@MODELS.register_module()
class DivideAndConquerHead(EmbeddingHead):
    """An :class:`EmbeddingHead` over the learners of a ``DivideAndConquerEmbedding``.

    A step trains the learner of its batch's cluster in the divide stage, else the merged embedding. A loss with
    parameters (learned margins) exists once per learner, and once for the merged embedding. A class-based loss
    (:class:`~mmdml.models.losses.ProxyLoss`) over slices exists once per slice, as wide as it is (CVPR 2019); the
    merged embedding is scored with the joined proxies, see :class:`SlicedProxyLoss`. The number of learners is that of
    the neck.

    Args:
        shared_loss: one loss for all learners and the merged embedding (the TPAMI release), also where it has
            parameters.
        kwargs: see :class:`EmbeddingHead`.

    Raises:
        ValueError: if slices should share one class-based loss, or have one of another package or inside another loss;
            see also :class:`EmbeddingHead`.

    Config::

        head=dict(type='DivideAndConquerHead', loss=dict(type='MarginLoss'))
    """

    #: Offers :meth:`divide` and :meth:`join`.
    has_learners = True

    def __init__(self, loss: dict[str, Any], shared_loss: bool = False, **kwargs: Any) -> None:
        super().__init__(loss, **kwargs)
        self.shared_loss = shared_loss
        self._loss_cfg = loss
        self.learner_losses = nn.ModuleList()

    def bind(self, neck: EmbeddingNeck) -> None:
        """Build a loss with parameters once per learner, a class-based one as wide as the learner is."""
        super().bind(neck)
        # One learner is the merged embedding.
        if neck.num_learners == 1 or not any(True for _ in self.loss_fn.parameters()):
            return
        sliced = neck.partition is not None and isinstance(self.loss_fn, ProxyLoss)
        if not sliced:
            check_slices(self._loss_cfg, neck)
        if self.shared_loss:
            if sliced:
                raise ValueError('slices cannot share one class-based loss, whose proxies are as wide as a slice')
            return
        changes = [dict(embed_dim=width) if sliced else {} for width in neck.learner_widths]
        losses = [MODELS.build({**self._loss_cfg, **change}) for change in changes]
        if sliced:
            self.loss_fn = SlicedProxyLoss(losses)
        else:
            self.learner_losses = nn.ModuleList(losses)

    @property
    def is_sliced(self) -> bool:
        """Whether the loss is cut as the embedding is, into the final number of slices."""
        return isinstance(self.loss_fn, SlicedProxyLoss)

    def loss_of(self, learner: int | None) -> nn.Module:
        """Return the loss that scores a learner, or the merged embedding for None."""
        own = self.loss_fn.slices if self.is_sliced else self.learner_losses
        return self.loss_fn if learner is None or not own else own[learner]

    @torch.no_grad()
    def divide(self, active: int, target: int) -> list[nn.Parameter]:
        """Copy the parameters of each parent's loss to its children; the first ones are those of the whole embedding.

        Returns:
            The parameters that were overwritten, whose optimizer moments are void.
        """
        each = target // active
        overwritten = []
        # From the last to the first: a child never overwrites a parent that is still to be read.
        for learner in reversed(range(target if self.learner_losses else 0)):
            parent = self.loss_of(None if active == 1 else learner // each)
            for own, inherited in zip(self.loss_of(learner).parameters(), parent.parameters(), strict=True):
                own.copy_(inherited)
                overwritten.append(own)
        return overwritten

    @torch.no_grad()
    def join(self, active: int) -> list[nn.Parameter]:
        """Give the merged embedding the mean of its learners' parameters, where they have their own.

        Returns:
            The parameters that were overwritten, whose optimizer moments are void.
        """
        if not self.learner_losses:
            return []
        learners = [self.loss_of(learner).parameters() for learner in range(active)]
        unsigned = getattr(self.loss_fn, 'unsigned_parameters', ())
        for (name, merged), *own in zip(self.loss_fn.named_parameters(), *learners, strict=True):
            values = torch.stack(own)
            merged.copy_((values.abs() if name in unsigned else values).mean(0))
        return list(self.loss_fn.parameters())
