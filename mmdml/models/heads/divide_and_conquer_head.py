"""Any loss, any source of candidates, applied to the active learner."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdml.models.losses import ProxyLoss
from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch

from .embedding_head import EmbeddingHead


class SlicedProxyLoss(nn.Module):
    """A class-based loss over an embedding that is cut into K slices.

    Every slice has proxies of its own, which a step that trains another learner leaves alone. The merged embedding
    ``concat(e_1 .. e_K) / sqrt(K)`` is compared with the proxies joined alike, ``concat(p_1 .. p_K) / sqrt(K)``.

    Args:
        losses: the losses of the slices, in their order.
    """

    def __init__(self, losses: Sequence[ProxyLoss]) -> None:
        super().__init__()
        self.slices = nn.ModuleList(losses)

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss of the merged embedding."""
        joined = torch.cat([part.unit_proxies() for part in self.slices], dim=1) / len(self.slices) ** 0.5
        return self.slices[0](pairs, mined, unit_proxies=joined)


@MODELS.register_module()
class DivideAndConquerHead(EmbeddingHead):
    """An :class:`EmbeddingHead` over the learners of a ``DivideAndConquerEmbedding``.

    ``DivisionHook`` sets ``learner`` before every step: the learner of the batch's cluster in the divide stage, None
    otherwise (the merged embedding). A loss with parameters (learned margins) exists once per learner, and once for the
    merged embedding. A class-based loss (:class:`~mmdml.models.losses.ProxyLoss`) over slices exists once per slice, as
    wide as it is (CVPR 2019); the merged embedding is scored with the joined proxies, see :class:`SlicedProxyLoss`.

    Args:
        num_learners: K, as in the neck.
        diversity_weight: lambda of the term that keeps learned masks apart (D&C+, TPAMI 2021; README value 0.01),
            added in the divide stage.
        shared_loss: one loss for all learners and the merged embedding (the TPAMI release), also where it has
            parameters.
        kwargs: see :class:`EmbeddingHead`.

    Raises:
        ValueError: if ``diversity_weight`` is negative, or the neck has another number of learners.

    Config::

        head=dict(type='DivideAndConquerHead', num_learners=8, loss=dict(type='MarginLoss'))
    """

    def __init__(
        self,
        loss: dict[str, Any],
        num_learners: int,
        diversity_weight: float = 0.0,
        shared_loss: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(loss, **kwargs)
        if diversity_weight < 0:
            raise ValueError(f'diversity_weight must be >= 0, got {diversity_weight}')
        self.num_learners = num_learners
        self.diversity_weight = diversity_weight
        self.shared_loss = shared_loss
        self._loss_cfg = loss
        # Learners and the merged embedding have parameters of their own; one learner is the merged embedding.
        has_parameters = any(True for _ in self.loss_fn.parameters())
        own = num_learners > 1 and has_parameters and not isinstance(self.loss_fn, ProxyLoss) and not shared_loss
        self.learner_losses = nn.ModuleList([MODELS.build(loss) for _ in range(num_learners if own else 0)])

    def bind(self, neck: nn.Module) -> None:
        """Build a class-based loss once per learner, as wide as the learner is."""
        super().bind(neck)
        if not isinstance(self.loss_fn, ProxyLoss) or self.num_learners == 1:
            return
        widths = neck.learner_widths
        if len(widths) != self.num_learners:
            raise ValueError(f'head.num_learners is {self.num_learners}, but the neck has {len(widths)} learners')
        sliced = any(width != neck.embed_dim for width in widths)
        if self.shared_loss and sliced:
            raise ValueError('slices cannot share one class-based loss, whose proxies are as wide as a slice')
        if self.shared_loss:
            return
        losses = [MODELS.build({**self._loss_cfg, 'embed_dim': width}) for width in widths]
        if sliced:
            self.loss_fn = SlicedProxyLoss(losses)
        else:
            self.learner_losses = nn.ModuleList(losses)

    @property
    def is_sliced(self) -> bool:
        """Whether the loss is cut as the embedding is, into the final number of slices."""
        return isinstance(self.loss_fn, SlicedProxyLoss)

    def loss_of(self, learner: int | None) -> BaseModule:
        """The loss that scores a learner."""
        own = self.loss_fn.slices if self.is_sliced else self.learner_losses
        return self.loss_fn if learner is None or not own else own[learner]

    @torch.no_grad()
    def divide(self, active: int, target: int) -> None:
        """Children take over the parameters of their parent's loss; the first ones those of the whole embedding."""
        each = target // active
        # From the last to the first: a child never overwrites a parent that is still to be read.
        for learner in reversed(range(target if self.learner_losses else 0)):
            parent = self.loss_of(None if active == 1 else learner // each)
            for own, inherited in zip(self.loss_of(learner).parameters(), parent.parameters(), strict=True):
                own.copy_(inherited)

    @torch.no_grad()
    def join(self, active: int) -> None:
        """The merged embedding takes over the mean of its learners' parameters, where they have their own."""
        if self.learner_losses:
            learners = [self.loss_of(learner).parameters() for learner in range(active)]
            for merged, *own in zip(self.loss_fn.parameters(), *learners, strict=True):
                merged.copy_(torch.stack(own).mean(0))

    def loss(
        self, embeddings: Tensor, labels: Tensor, indices: Tensor | None, neck: nn.Module, learner: int | None = None
    ) -> dict[str, Tensor]:
        """See :meth:`EmbeddingHead.loss`; with a learner, plus ``loss_diversity``."""
        losses = super().loss(embeddings, labels, indices, neck, learner)
        if learner is not None and self.diversity_weight:
            losses['loss_diversity'] = self.diversity_weight * neck.diversity()
        return losses
