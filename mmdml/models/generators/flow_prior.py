"""Samples of a learned prior: a normalizing flow with a Gaussian for each class."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmdml.models.losses.checks import check_class_range
from mmdml.models.necks import EmbeddingNeck
from mmdml.registry import MODELS
from mmdml.structures import Progress, Rows, StepContext
from mmdml.structures.checks import check_numbers, check_positive
from mmdml.utils.numbers import check_counts
from mmdml.utils.seeding import Stream, torch_generator

from .base import Generator


@MODELS.register_module()
class FlowPrior(Generator):
    r"""Synthetic candidates from a learned density of each class: a normalizing flow with class-conditional Gaussians.

    After GAPan, Wang et al., *Learning to Align Generative Appearance Priors for Fine-grained Image Retrieval*, arXiv
    2605.09859, 2026, of which only the abstract was at hand: the flow f maps rows of class c to
    :math:`\mathcal N(\mu_c, I)` and is fitted by exact likelihood; samples near the modes of the priors, mapped back,
    are anchors of their class. Sizes, the temperature and what follows are ours, not confirmed.

    With the unit rows u times :math:`\sqrt D`, without a gradient, the flow learns by

    .. math:: -\frac{1}{D} \operatorname{mean}_i \big( \ln \mathcal N(f(u_i); \mu_{y_i}, I) + \ln |\det f'(u_i)| \big)

    which is logged as ``loss_{name}`` and reaches the flow only. Each real row brings samples

    .. math:: \hat z = f^{-1}(\mu_{y_i} + T \epsilon), \qquad \epsilon \sim \mathcal N(0, I)

    of its class, constants as long as the mean row, which are further candidates for all real rows. f has affine
    coupling layers (Dinh et al., *Density Estimation Using Real NVP*, ICLR 2017) and is the identity at first.

    Args:
        num_classes: number C of training classes.
        embed_dim: width D of the embedding, at least 2.
        num_samples: of each real row, at least 1.
        num_layers: coupling layers, at least 2, so that every neuron is moved.
        hidden: width of their networks, at least 1.
        temperature: T > 0; below 1 samples keep to the dense regions.
        onset: training before the first samples, in epochs (int) or as a share of the run (float in [0, 1]); the flow
            learns from the start.

    Raises:
        ValueError: for a value out of range, embeddings of another width, or in a step a label without a density.

    Config::

        head=dict(sources=dict(prior=dict(type='FlowPrior', num_classes=100, embed_dim=512, onset=0.2)))
    """

    def __init__(
        self,
        num_classes: int,
        embed_dim: int,
        num_samples: int = 1,
        num_layers: int = 4,
        hidden: int = 256,
        temperature: float = 0.5,
        onset: int | float = 0.2,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_counts(num_classes=num_classes, num_samples=num_samples, hidden=hidden)
        # Every neuron is moved by one layer and kept by another.
        check_counts(2, embed_dim=embed_dim, num_layers=num_layers)
        check_positive(temperature=temperature)
        check_numbers(onset=onset)
        if onset < 0 or (isinstance(onset, float) and onset > 1):
            raise ValueError(f'onset must be epochs (int >= 0) or a share of the run (float in [0, 1]), got {onset}')
        self.num_samples = num_samples
        self.temperature = temperature
        self.onset = onset
        self.means = nn.Parameter(torch.zeros(num_classes, embed_dim))
        self.layers = nn.ModuleList(_Coupling(embed_dim, hidden, number % 2) for number in range(num_layers))
        self._own_loss: Tensor | None = None

    def bind(self, neck: EmbeddingNeck) -> None:
        """Refuse embeddings of another width."""
        neck.require_width('FlowPrior', self.means.shape[1])

    def forward(self, anchors: Rows, step: StepContext) -> Rows | None:
        """``R`` real rows -> ``num_samples * R`` samples of their classes, sample-major; None before the onset.

        Args:
            anchors: real rows, from which the flow learns.
            step: position of the run, which seeds the samples. All learners have one flow, of the whole embedding.
        """
        if not len(anchors):
            return None
        check_class_range(anchors.labels, len(self.means), 'FlowPrior')
        raw = anchors.embeddings.detach().to(torch.promote_types(anchors.embeddings.dtype, torch.float32))
        scale = self.means.shape[1] ** 0.5
        self._own_loss = self.negative_log_likelihood(scale * normalize(raw, dim=1).to(self.means), anchors.labels)
        progress = step.progress
        if progress.iter < self.first_step(progress):
            return None
        seeds = (Stream.PRIOR_SAMPLES, progress.seed, progress.iter, progress.rank)
        labels = anchors.labels.repeat(self.num_samples)
        samples = self.sample(labels, torch_generator(*seeds, device=raw.device)).to(raw)
        return Rows(samples * raw.norm(dim=1).mean() / scale, labels, torch.full_like(labels, -1))

    def first_step(self, progress: Progress) -> int:
        """Return the iteration of the first samples."""
        return progress.iterations(self.onset)

    def negative_log_likelihood(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Mean over rows ``(R, D)`` of classes ``(R,)``, in nats per dimension."""
        total = rows.new_zeros(len(rows))
        for layer in self.layers:
            rows, log_scale = layer(rows)
            total = total + log_scale
        gaussian = -(rows - self.means[labels]).square().sum(1) / 2 - math.log(2 * math.pi) * rows.shape[1] / 2
        return -(gaussian + total).mean() / rows.shape[1]

    @torch.no_grad()
    def sample(self, labels: Tensor, random: torch.Generator | None = None) -> Tensor:
        """``(R,)`` class ids -> ``(R, D)``, about sqrt(D) long."""
        means = self.means[labels]
        noise = torch.randn(means.shape, generator=random, device=means.device, dtype=means.dtype)
        rows = means + self.temperature * noise
        for layer in reversed(self.layers):
            rows = layer.inverse(rows)
        return rows

    def own_loss(self) -> Tensor | None:
        """Likelihood of the rows of this step, once."""
        loss, self._own_loss = self._own_loss, None
        return loss


class _Coupling(nn.Module):
    """Every other column, scaled and shifted by what a network makes of the rest; log scales lie in (-1, 1)."""

    def __init__(self, width: int, hidden: int, first: int) -> None:
        super().__init__()
        self.moved, self.kept = slice(first, None, 2), slice(1 - first, None, 2)
        moved, kept = (len(range(width)[part]) for part in (self.moved, self.kept))
        self.network = nn.Sequential(nn.Linear(kept, hidden), nn.ReLU(), nn.Linear(hidden, 2 * moved))
        nn.init.zeros_(self.network[2].weight)
        nn.init.zeros_(self.network[2].bias)

    def _scale_and_shift(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.network(rows[:, self.kept]).chunk(2, 1)
        return log_scale.tanh(), shift

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """``(R, D)`` -> ``(R, D)`` and ``(R,)`` logarithms of the determinant."""
        log_scale, shift = self._scale_and_shift(rows)
        return self._with_moved(rows, rows[:, self.moved] * log_scale.exp() + shift), log_scale.sum(1)

    def inverse(self, rows: Tensor) -> Tensor:
        """``(R, D)`` -> the ``(R, D)`` that :meth:`forward` maps to them."""
        log_scale, shift = self._scale_and_shift(rows)
        return self._with_moved(rows, (rows[:, self.moved] - shift) * (-log_scale).exp())

    def _with_moved(self, rows: Tensor, moved: Tensor) -> Tensor:
        result = rows.clone()
        result[:, self.moved] = moved
        return result
