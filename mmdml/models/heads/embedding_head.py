"""From raw embeddings to a scalar: sources of candidates, one normalization, mining, the loss."""

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdml.dist import gather_rows
from mmdml.models.distillations.base import EmbeddedBatch
from mmdml.models.generators import Generator
from mmdml.models.heads.source_diagnostics import source_diagnostics
from mmdml.models.losses import ProxyLoss
from mmdml.models.necks import EmbeddingNeck
from mmdml.models.necks.base import at_least_fp32
from mmdml.registry import MODELS, TASK_UTILS
from mmdml.structures import Mined, PairBatch, PairRules, PairRulesReceiver, Rows, StepContext
from mmdml.structures.checks import check_numbers
from mmdml.utils.numbers import check_counts
from mmdml.utils.seeding import Stream, torch_generator


@MODELS.register_module()
class EmbeddingHead(BaseModule):
    """Apply a metric-learning loss to a batch of raw embeddings.

    Real rows (of all ranks, if gathered) are the anchors. Each source adds raw candidate rows: synthetic ones, memory.
    All rows are normalized once, at the end, and meet the loss as one :class:`~mmdml.structures.PairBatch`. The loss
    is independent of sources and ranks.

    Args:
        loss: config of a loss, called as ``loss(pairs, mined=None) -> scalar``.
        miner: config of a miner, called as ``miner(pairs) -> Pairs | Triplets``. Default: the loss sees all pairs.
        sources: configs by name of what adds candidates, called as
            ``source(anchors: Rows, step: StepContext) -> Rows | None``. Switch an inherited one off with ``None``.
        gather: compute the global loss over the rows of all ranks, with gradient. False: each rank scores its own rows.
        exclude_same_image: a pair with one dataset index is neither positive nor negative.
        diagnostics_interval: iterations between diagnostics of the sources, 0 for never: ``{source}_candidates`` rows,
            ``{source}_gradient_share`` (their part of the gradient with respect to all candidates, sum of row norms, in
            [0, 1]), ``{source}_cosine`` to the parents, and what the source itself reports.
        space: config of a :class:`~mmdml.structures.Space`, how similar two embeddings are. Default: cosine.
        targets: config of what says how much each pair is a positive, called as ``targets(anchors: Rows, candidates:
            Rows) -> (A, X) in [0, 1]``. Default: 1 where the labels agree, else 0.
        regularizers: configs by name of terms beside the loss, each with its ``weight`` >= 0, called as
            ``regularizer(rows: Rows, neck, step) -> scalar | None`` with the real rows, and logged as ``loss_{name}``.
            Switch an inherited one off with ``None``.
        distillations: configs by name of a :class:`~mmdml.models.distillations.Distillation`, terms that pull the
            embedding towards another view of the batch, logged as ``loss_{name}_{term}``. Switch an inherited one off
            with ``None``.

    Raises:
        ValueError: for a missing or negative weight, a source with 'loss' in its name, a regularizer with the name of a
            source, proxies of another width than the embedding, or a space that does not fit the neck.

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
        regularizers: dict[str, dict[str, Any] | None] | None = None,
        distillations: dict[str, dict[str, Any] | None] | None = None,
    ) -> None:
        super().__init__()
        check_counts(0, diagnostics_interval=diagnostics_interval)
        self.loss_fn = MODELS.build(loss)
        self.miner = TASK_UTILS.build(miner) if miner else None
        self.sources = _build_by_name(sources)
        for name in self.sources:
            if 'loss' in name and diagnostics_interval:
                raise ValueError(
                    f'a source cannot be called {name!r}: its figures would be added to the loss, as MMEngine adds all '
                    "whose name has 'loss' in it"
                )
        self.distillations = _build_by_name(distillations)
        self.space = TASK_UTILS.build(space) if space else None
        self.targets = TASK_UTILS.build(targets) if targets else None
        self.regularizers = nn.ModuleDict()
        self.weights: dict[str, float] = {}
        for name, cfg in (regularizers or {}).items():
            if not cfg:
                continue
            if 'weight' not in cfg:
                raise ValueError(f"regularizers.{name} needs a 'weight', got {dict(cfg)}")
            check_numbers(**{f'regularizers.{name}.weight': cfg['weight']})
            if cfg['weight'] < 0:
                raise ValueError(f'regularizers.{name}.weight must be >= 0, got {cfg["weight"]}')
            self.weights[name] = cfg['weight']
            if name in self.sources:
                raise ValueError(f'{name!r} names a source and a regularizer, whose terms would share one log entry')
            self.regularizers[name] = MODELS.build({key: cfg[key] for key in cfg if key != 'weight'})
        self.gather = gather
        self.exclude_same_image = exclude_same_image
        self.diagnostics_interval = diagnostics_interval

    def bind(self, neck: EmbeddingNeck) -> None:
        """Build and check what depends on the neck; called once, when the model is built.

        Raises:
            ValueError: if a part has another width than the embedding, or the neck gives no points of its space.
        """
        if self.space is not None:
            self.space.bind(neck)
        elif not neck.is_spherical:
            name = type(neck).__name__
            raise ValueError(f'{name} gives no unit vectors to take cosines of: set head.space as its docstring says')
        if isinstance(self.loss_fn, ProxyLoss):
            neck.require_width('head.loss', self.loss_fn.embed_dim)
        for part in (*self.sources.values(), *self.regularizers.values(), *self.distillations.values()):
            if hasattr(part, 'bind'):
                part.bind(neck)
            if isinstance(part, PairRulesReceiver):
                # Not the module itself, which would be a part of two.
                targets_of = self.targets.__call__ if self.targets else None
                part.set_pair_rules(PairRules(self.exclude_same_image, targets_of))
        if not self.gather and any(getattr(part, 'sharded', False) for part in self.modules()):
            raise ValueError('sharded proxies meet the rows of all ranks: head.gather must be True')

    def loss(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices: Tensor | None,
        neck: EmbeddingNeck,
        step: StepContext | None = None,
        features: Tensor | None = None,
        inputs: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute loss and diagnostics of one batch.

        Args:
            embeddings: ``(B, D)`` raw embeddings with gradient.
            labels: ``(B,)`` class ids.
            indices: ``(B,)`` dataset indices, None if unknown.
            neck: normalizes.
            step: position of the run and active learner. Default: outside a run, the whole embedding.
            features: ``(B, C)`` pooled features and
            inputs: ``(B, ...)`` preprocessed images, where a distillation needs them.

        Returns:
            ``loss``, ``loss_{regularizer}``, ``loss_{distillation}_{term}``, ``loss_{source}`` of generators that train
            a part of their own, and, at diagnostics steps, ``{source}_*`` scalars.

        Raises:
            RuntimeError: if there are sources, but no step context.
        """
        if self.sources and step is None:
            raise RuntimeError(
                f'the sources {list(self.sources)} depend on the position of the run, but there is no step context: '
                "default_hooks needs dict(type='StepContextHook'), see configs/_base_/default_runtime.py"
            )
        device = embeddings.device.type
        autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        # Everything from here on is fp32: gathered gradients, noise, distances, exponentials.
        with torch.autocast(device, enabled=False):
            if embeddings.dtype.itemsize < 4:
                embeddings = embeddings.float()
            rows = Rows.of_batch(embeddings, labels, indices)
            anchors = gather_rows(rows) if self.gather else rows
            losses = self._loss(anchors, neck, step.with_shared_rows() if step and self.gather else step)
            if self.distillations:
                features = features if features is None else at_least_fp32(features)
                batch = EmbeddedBatch(rows, anchors, features, inputs, neck, step, self.gather, autocast)
                for name, distillation in self.distillations.items():
                    losses.update({f'loss_{name}_{key}': term for key, term in distillation(batch).items()})
            return losses

    def _loss(self, anchors: Rows, neck: EmbeddingNeck, step: StepContext | None) -> dict[str, Tensor]:
        if step is not None:
            step.publish(anchors)
        added = {name: source(anchors, step) for name, source in self.sources.items()}
        added = {name: rows for name, rows in added.items() if rows is not None and len(rows)}
        pairs = self._pair_batch(anchors, added, neck, step)
        mined = self.miner(pairs.detach()) if self.miner else None
        losses = {'loss': self.score(pairs, mined, step.learner_index if step else None)}
        for name, regularizer in self.regularizers.items():
            term = regularizer(anchors, neck, step)
            if term is not None:
                losses[f'loss_{name}'] = self.weights[name] * term
        for name, source in self.sources.items():
            term = source.own_loss() if isinstance(source, Generator) else None
            if term is not None:
                losses[f'loss_{name}'] = term
        if self._is_diagnosed(step):
            losses.update(source_diagnostics(losses['loss'], pairs, added, self.sources))
        return losses

    def _is_diagnosed(self, step: StepContext | None) -> bool:
        interval = self.diagnostics_interval
        return bool(self.sources and interval and (step.progress.iter + 1) % interval == 0)

    def score(self, pairs: PairBatch, mined: Mined | None, learner: int | None) -> Tensor:
        """Scalar loss of a learner's pairs."""
        return self.loss_of(learner)(pairs, mined)

    def loss_of(self, learner: int | None) -> nn.Module:
        """Return the loss that scores a learner; here all share one."""
        return self.loss_fn

    def _pair_batch(
        self, anchors: Rows, added: dict[str, Rows], neck: EmbeddingNeck, step: StepContext | None
    ) -> PairBatch:
        candidates = Rows.cat([anchors, *added.values()])
        learner = step.learner_index if step else None
        unit = candidates.by_parts(lambda raw: neck.unit(raw, learner))
        diagnosed = self._is_diagnosed(step) and torch.is_grad_enabled()
        random = None
        if step is not None and self.miner is not None:
            # Ranks that share their rows mine the same tuples, and so does a single process with all these rows.
            progress = step.progress
            random = torch_generator(
                Stream.MINING, progress.seed, progress.iter, progress.rank, device=anchors.labels.device
            )
        return PairBatch(
            anchors.with_embeddings(unit.parts[: len(anchors.parts)]),
            # Tensors of their own, so that a gradient with respect to the candidates leaves out their part as anchors.
            # That of rows without a graph costs a product, which only the diagnostics need.
            unit.by_parts(
                lambda part: part.view_as(part) if part.requires_grad else part.detach().requires_grad_(diagnosed)
            ),
            exclude_same_image=self.exclude_same_image,
            random=random,
            space=self.space,
            targets=self.targets(anchors, candidates) if self.targets else None,
        )


def _build_by_name(configs: dict[str, dict[str, Any] | None] | None) -> nn.ModuleDict:
    return nn.ModuleDict({name: MODELS.build(cfg) for name, cfg in (configs or {}).items() if cfg})
