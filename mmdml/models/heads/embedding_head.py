"""From raw embeddings to a scalar: sources of candidates, one normalisation, mining, the loss."""

import dataclasses
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdml.dist import gather_rows
from mmdml.models.losses import ProxyLoss
from mmdml.registry import MODELS, TASK_UTILS
from mmdml.structures import Mined, PairBatch, Rows
from mmdml.structures.progress import Progress
from mmdml.utils.seeding import Stream, torch_generator


@MODELS.register_module()
class EmbeddingHead(BaseModule):
    """Apply a metric-learning loss to a batch of raw embeddings.

    Real rows (of all ranks, if gathered) are the anchors. Each source adds raw candidate rows: synthetic ones, memory.
    All rows are normalised once, at the end, and meet the loss as one :class:`~mmdml.structures.PairBatch`. The loss
    knows neither sources nor ranks.

    Args:
        loss: config of a loss, called as ``loss(pairs, mined=None) -> scalar``.
        miner: config of a miner, called as ``miner(pairs) -> Pairs | Triplets``. Default: the loss sees all pairs.
        sources: configs by name of what adds candidates, called as
            ``source(anchors: Rows, progress, learner: ActiveLearner | None) -> Rows | None``. Switch an inherited one
            off with ``None``.
        gather: compute the global loss over the rows of all ranks, with gradient. False: each rank scores its own rows.
        exclude_same_image: a pair with one data-set index is neither positive nor negative.
        diagnostics_interval: iterations between diagnostics of the sources in the log, 0 for never.
        space: config of a :class:`~mmdml.structures.Space`, how similar two embeddings are. Default: cosine.
        targets: config of what says how much each pair is a positive, called as ``targets(anchors: Rows, candidates:
            Rows) -> (A, X) in [0, 1]``. Default: 1 where the labels agree, else 0.

    Config::

        head=dict(
            type='EmbeddingHead',
            loss=dict(type='MultiSimilarityLoss'),
            sources=dict(iaa=dict(type='IAAGenerator', num_copies=3, lam=0.8)))
    """

    def __init__(
        self,
        loss: dict[str, Any],
        miner: dict[str, Any] | None = None,
        sources: dict[str, dict[str, Any] | None] | None = None,
        gather: bool = True,
        exclude_same_image: bool = False,
        diagnostics_interval: int = 50,
        space: dict[str, Any] | None = None,
        targets: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.loss_fn = MODELS.build(loss)
        self.miner = TASK_UTILS.build(miner) if miner else None
        self.sources = nn.ModuleDict({name: MODELS.build(cfg) for name, cfg in (sources or {}).items() if cfg})
        self.space = TASK_UTILS.build(space) if space else None
        self.targets = TASK_UTILS.build(targets) if targets else None
        self.gather = gather
        self.exclude_same_image = exclude_same_image
        self.diagnostics_interval = diagnostics_interval
        #: Set before every training iteration by ``ProgressHook``.
        self.progress: Progress | None = None
        #: The learner that the next batch trains, set by ``DivisionHook``; None: the whole embedding.
        self.learner: int | None = None
        #: The anchors of the last training step, detached: all ranks' if gathered. Read by ``SweepHook`` for the bank.
        self.last_rows: Rows | None = None

    def loss(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices: Tensor | None,
        neck: nn.Module,
        learner: int | None = None,
    ) -> dict[str, Tensor]:
        """Loss and diagnostics of one batch.

        Args:
            embeddings: ``(B, D)`` raw embeddings with gradient.
            labels: ``(B,)`` class ids.
            indices: ``(B,)`` data-set indices, None if unknown.
            neck: offers ``unit(rows, learner)``.
            learner: active learner of the batch.

        Returns:
            ``loss`` and, at diagnostics steps, ``{source}_*`` scalars.

        Raises:
            RuntimeError: if there are sources, but nobody told where the run stands.
        """
        if self.sources and self.progress is None:
            raise RuntimeError(
                f'the sources {list(self.sources)} follow the progress of the run, but head.progress is not set: '
                "default_hooks needs dict(type='ProgressHook'), see configs/_base_/default_runtime.py"
            )
        # Everything from here on is fp32: gathered gradients, noise, distances, exponentials.
        with torch.autocast(embeddings.device.type, enabled=False):
            if embeddings.dtype.itemsize < 4:
                embeddings = embeddings.float()
            return self._loss(Rows.of_batch(embeddings, labels, indices), neck, learner)

    def _loss(self, anchors: Rows, neck: nn.Module, learner: int | None) -> dict[str, Tensor]:
        progress = self.progress
        if self.gather:
            anchors = gather_rows(anchors)
            if progress is not None:
                progress = dataclasses.replace(progress, rank=0, world_size=1)
        self.last_rows = anchors.detach()

        active = neck.active(learner) if self.sources and learner is not None else None
        added = {name: source(anchors, progress, active) for name, source in self.sources.items()}
        added = {name: rows for name, rows in added.items() if rows is not None and len(rows)}
        pairs = self._pair_batch(anchors, added, neck, learner, progress)
        mined = self.miner(pairs.detach()) if self.miner else None
        losses = {'loss': self.score(pairs, mined, learner)}
        interval = self.diagnostics_interval
        if self.sources and interval and (progress.iter + 1) % interval == 0:
            losses.update(self._diagnostics(losses['loss'], pairs, added))
        return losses

    def bind(self, neck: nn.Module) -> None:
        """Build and check what depends on the neck; called once, when the model is built.

        Raises:
            ValueError: if the proxies of a class-based loss have another width than the embedding.
        """
        if isinstance(self.loss_fn, ProxyLoss) and self.loss_fn.embed_dim != neck.embed_dim:
            raise ValueError(
                f'head.loss.embed_dim is {self.loss_fn.embed_dim}, but neck.embed_dim is {neck.embed_dim}: '
                'proxies are as wide as the embedding'
            )

    def score(self, pairs: PairBatch, mined: Mined | None, learner: int | None) -> Tensor:
        """Scalar loss of a learner's pairs."""
        return self.loss_of(learner)(pairs, mined)

    def loss_of(self, learner: int | None) -> nn.Module:
        """The loss that scores a learner; here all share one."""
        return self.loss_fn

    def _pair_batch(
        self, anchors: Rows, added: dict[str, Rows], neck: nn.Module, learner: int | None, progress: Progress | None
    ) -> PairBatch:
        candidates = Rows.cat([anchors, *added.values()])
        unit = neck.unit(candidates.embeddings, learner)
        random = None
        if progress is not None and self.miner is not None:
            # Ranks that share their rows mine the same tuples, and so does a single process with all these rows.
            random = torch_generator(Stream.MINING, progress.seed, progress.iter, progress.rank, device=unit.device)
        return PairBatch(
            anchors.with_embeddings(unit[: len(anchors)]),
            # A tensor of its own, so that a gradient with respect to the candidates leaves out their part as anchors.
            candidates.with_embeddings(unit.view_as(unit)),
            exclude_same_image=self.exclude_same_image,
            random=random,
            space=self.space,
            targets=self.targets(anchors, candidates) if self.targets else None,
        )

    def _diagnostics(self, loss: Tensor, pairs: PairBatch, added: dict[str, Rows]) -> dict[str, Tensor]:
        """What each source contributed: number of rows, share of the gradient, likeness to its parents.

        The share is that of the source's rows in the summed norms of the loss's gradients with respect to the unit
        candidates, in [0, 1]: 0 if the loss would be the same without the source.
        """
        log = {}
        norms = _gradient_norms(loss, pairs.candidates.embeddings)
        total = norms.sum()
        start = len(pairs.anchors)
        for name, source in self.sources.items():
            rows = added.get(name)
            number = 0 if rows is None else len(rows)
            log[f'{name}_candidates'] = torch.tensor(float(number))
            if number:
                part = slice(start, start + number)
                start += number
                log[f'{name}_gradient_share'] = norms[part].sum() / total.masked_fill(total == 0, 1)
                # View ids count the anchors, so they lead back to a synthetic row's first parent.
                parent = rows.views[:, 0]
                if (parent >= 0).all():
                    likeness = pairs.candidates.embeddings[part] * pairs.anchors.embeddings[parent]
                    log[f'{name}_cosine'] = likeness.detach().sum(1).mean()
            if hasattr(source, 'diagnostics'):
                log.update({f'{name}_{key}': torch.as_tensor(value) for key, value in source.diagnostics().items()})
        return log


def _gradient_norms(loss: Tensor, rows: Tensor) -> Tensor:
    """``(R,)`` norms of the gradient of a loss with respect to rows ``(R, D)``; 0 where the graph does not lead."""
    if not (loss.requires_grad and rows.requires_grad):
        return rows.new_zeros(len(rows))
    gradient = torch.autograd.grad(loss, rows, retain_graph=True, allow_unused=True, materialize_grads=True)
    return gradient[0].norm(dim=1)
