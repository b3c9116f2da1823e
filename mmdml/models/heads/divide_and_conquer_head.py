"""Any loss, any source of candidates, applied to the active learner."""

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdml.registry import MODELS

from .embedding_head import EmbeddingHead


@MODELS.register_module()
class DivideAndConquerHead(EmbeddingHead):
    """An :class:`EmbeddingHead` over the learners of a ``DivideAndConquerEmbedding``.

    ``DivisionHook`` sets ``learner`` before every step: the learner of the batch's cluster in the divide stage, None
    otherwise (the merged embedding). A loss with parameters (learned margins) exists once per learner, and once for the
    merged embedding; one that is cut as the embedding is (``ProxyNCALoss(num_slices=K)``) brings its learners' losses.

    Args:
        num_learners: K, as in the neck.
        diversity_weight: lambda of the term that keeps learned masks apart (D&C+, TPAMI 2021; README value 0.01),
            added in the divide stage.
        shared_loss: one loss for all learners and the merged embedding (the TPAMI release), also where it has
            parameters.
        kwargs: see :class:`EmbeddingHead`.

    Raises:
        ValueError: if ``diversity_weight`` is negative, or the loss is cut into another number of slices.

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
        # Learners and the merged embedding have parameters of their own; one learner is the merged embedding.
        has_parameters = any(True for _ in self.loss_fn.parameters())
        own = num_learners > 1 and has_parameters and self._slices is None and not shared_loss
        self.learner_losses = nn.ModuleList([MODELS.build(loss) for _ in range(num_learners if own else 0)])
        if self._slices is not None and len(self._slices) != num_learners:
            raise ValueError(f'the loss has num_slices={len(self._slices)} for num_learners={num_learners}')

    @property
    def _slices(self) -> nn.ModuleList | None:
        return getattr(self.loss_fn, 'slices', None)

    def loss_of(self, learner: int | None) -> BaseModule:
        """The loss that scores a learner."""
        own = self._slices or self.learner_losses
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
