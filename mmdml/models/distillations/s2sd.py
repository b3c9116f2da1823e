"""Similarity-based self-distillation (S2SD)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmdml.models.losses.widths import at_width
from mmdml.models.necks import EmbeddingNeck
from mmdml.registry import MODELS
from mmdml.structures import PairRules, Progress
from mmdml.structures.checks import check_numbers, check_positive
from mmdml.structures.rows import unit_length
from mmdml.utils.numbers import are_numbers, check_counts, is_whole

from .base import Distillation, EmbeddedBatch, similarity_divergence


@MODELS.register_module()
class S2SD(Distillation):
    r"""Learn in wider spaces at the same time, and pull the similarities of the embedding towards theirs.

    Roth et al., *Simultaneous Similarity-based Self-Distillation for Deep Metric Learning*, ICML 2021, Sec. 3. Heads
    :math:`g_k` of two layers map the features to m wider spaces, each trained by the loss. With the divergence D
    of :func:`~mmdml.models.distillations.base.similarity_divergence`,

    .. math:: L = \tfrac{1}{2} \Big( \ell(f) + \tfrac{1}{m} \sum_k \ell(g_k) \Big)
        + \tfrac{\gamma}{m} \sum_k D(f, g_k) + \gamma_\phi D(f, \phi)

    with the features :math:`\phi` as a further teacher from some iteration on. The head's own loss keeps its weight of
    1, so all terms here have twice theirs: :math:`\frac{1}{m} \sum_k \ell(g_k)`, :math:`2 \gamma` and
    :math:`2 \gamma_\phi`. The weights are given as in the paper. The heads train with the embedding and are dropped
    with it afterwards.

    Args:
        in_channels: C, width of the pooled features.
        dims: widths of the spaces; the embedding's own size costs nothing at test time, whatever they are.
        loss: config of the loss in these spaces; a class-based one gets their widths. Default: ``MultiSimilarityLoss``.
        miner: config of a miner for it.
        weight: :math:`\gamma`; 50 in the released code.
        feature_weight: :math:`\gamma_\phi`; 50 in the released code, 0 for none.
        feature_start: iteration from which features teach; 1,000 in the released code.
        temperature: T.

    Raises:
        ValueError: for no width, or a number out of range; in a step, without features.

    Config::

        head=dict(distillations=dict(
            s2sd=dict(type='S2SD', in_channels=2048, dims=(512, 1024, 1536, 2048), loss=dict(type='MarginLoss'))))
    """

    def __init__(
        self,
        in_channels: int = 2048,
        dims: Sequence[int] = (512, 1024, 1536, 2048),
        loss: dict[str, Any] | None = None,
        miner: dict[str, Any] | None = None,
        weight: float = 50.0,
        feature_weight: float = 50.0,
        feature_start: int = 1000,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if not are_numbers(dims, 1) or not all(is_whole(dim) and dim >= 1 for dim in dims):
            raise ValueError(f'dims must be widths of at least 1, one or more, got {dims!r}')
        check_counts(in_channels=in_channels)
        check_numbers(weight=weight, feature_weight=feature_weight, feature_start=feature_start)
        if weight < 0 or feature_weight < 0 or feature_start < 0:
            raise ValueError(
                f'weight, feature_weight and feature_start must be 0 or more, got {weight}, {feature_weight} and '
                f'{feature_start}'
            )
        check_positive(temperature=temperature)
        self.in_channels = in_channels
        self.weight = weight
        self.feature_weight = feature_weight
        self.feature_start = feature_start
        self.temperature = temperature
        self.spaces = nn.ModuleList(
            nn.Sequential(nn.Linear(in_channels, dim), nn.ReLU(), nn.Linear(dim, dim)) for dim in dims
        )
        self.necks = nn.ModuleList(MODELS.build(dict(type='IdentityEmbedding', in_channels=dim)) for dim in dims)
        loss = loss or dict(type='MultiSimilarityLoss')
        self.heads = nn.ModuleList(
            MODELS.build(
                dict(
                    type='EmbeddingHead',
                    loss=at_width(loss, lambda width, dim=dim: dim),
                    miner=miner,
                    diagnostics_interval=0,
                )
            )
            for dim in dims
        )

    def bind(self, neck: EmbeddingNeck) -> None:
        """Refuse features of another width.

        Raises:
            ValueError: naming both widths; see also :class:`Distillation`.
        """
        super().bind(neck)
        if self.in_channels != neck.in_channels:
            raise ValueError(f'S2SD.in_channels is {self.in_channels}, but neck.in_channels is {neck.in_channels}')

    def first_step(self, progress: Progress) -> int:
        """Return the iteration in which all terms are there."""
        return self.feature_start if self.feature_weight else 0

    def set_pair_rules(self, rules: PairRules) -> None:
        """Let the rules of the head hold in the wide spaces, too."""
        for head in self.heads:
            head.exclude_same_image, head.targets = rules.exclude_same_image, rules.targets_of

    def forward(self, batch: EmbeddedBatch) -> dict[str, Tensor]:
        """``spaces``, ``similarity`` and, from ``feature_start`` on, ``features``: weighted scalars."""
        if batch.features is None:
            raise ValueError('S2SD needs the pooled features: call the head through ImageEmbedder')
        own, rows = batch.unit(), batch.rows
        losses, divergences = [], []
        # Rows of the wide spaces are not for those who receive rows of the embedding, such as the bank.
        step = batch.step and dataclasses.replace(batch.step, receivers=())
        for space, neck, head in zip(self.spaces, self.necks, self.heads, strict=True):
            raw = space(batch.features)
            head.gather = batch.gather
            losses.append(head.loss(raw, rows.labels, rows.indices, neck, step)['loss'])
            wide = unit_length(batch.gathered(raw))
            divergences.append(similarity_divergence(own, wide, self.temperature))
        terms = {
            'spaces': torch.stack(losses).mean(),
            'similarity': 2 * self.weight * torch.stack(divergences).mean(),
        }
        if self.feature_weight and batch.step is not None and batch.step.progress.iter >= self.feature_start:
            features = unit_length(batch.gathered(batch.features.detach()))
            terms['features'] = 2 * self.feature_weight * similarity_divergence(own, features, self.temperature)
        return terms
