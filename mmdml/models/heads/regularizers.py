"""Terms that are added beside the loss."""

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmdml.models.losses import PairLoss
from mmdml.models.losses.widths import check_slices
from mmdml.models.necks import EmbeddingNeck
from mmdml.registry import MODELS
from mmdml.structures import PairRules, Rows, StepContext
from mmdml.structures.checks import check_positive
from mmdml.utils.numbers import check_counts


def unit_rows(rows: Rows, neck: EmbeddingNeck, step: StepContext | None) -> Tensor:
    """``(B, D)`` rows of length 1, as wide as the learner that the step trains."""
    return neck.unit(rows.embeddings, step.learner_index if step else None)


def dimensions(unit: Tensor, step: StepContext | None) -> int | Tensor:
    """How many dimensions ``(B, D)`` unit rows of the learner of a step have: those that its mask does not make 0."""
    return unit.shape[1] if step is None or step.learner is None else (step.learner.scale != 0).sum()


@MODELS.register_module()
class MaskDiversity(BaseModule):
    """Keep the learned masks of ``DivideAndConquerEmbedding`` apart (D&C+, TPAMI 2021; README value of weight 0.01).

    ``R = 1 / (K (K - 1)) sum_{i != j} cos(relu(m_i), relu(m_j))`` in [0, 1], added in the divide stage.

    Config::

        head=dict(regularizers=dict(diversity=dict(type='MaskDiversity', weight=0.01)))
    """

    def forward(self, rows: Rows, neck: EmbeddingNeck, step: StepContext | None) -> Tensor | None:
        """Scalar, None for a step that trains the whole embedding."""
        return neck.diversity() if step and step.learner else None


@MODELS.register_module()
class LossTerm(BaseModule):
    """A loss over pairs as a term beside another loss: of the real rows among themselves, without a miner.

    The head's ``targets`` and ``exclude_same_image`` hold for its pairs, too.

    Args:
        loss: config of a loss over pairs.

    Raises:
        TypeError: if it is another kind of loss.

    Config::

        head=dict(
            loss=dict(type='ProxyNCALoss', num_classes=100, embed_dim=512),
            regularizers=dict(tcm=dict(type='LossTerm', loss=dict(type='TCMLoss'), weight=1.0)))
    """

    def __init__(self, loss: dict[str, Any]) -> None:
        super().__init__()
        self.loss = MODELS.build(loss)
        self._loss_cfg = loss
        self.rules = PairRules()
        if not isinstance(self.loss, PairLoss):
            raise TypeError(f'LossTerm takes a loss over pairs, got {type(self.loss).__name__}')

    def bind(self, neck: EmbeddingNeck) -> None:
        """Refuse a neck without unit vectors, or of slices where the loss is made for the whole embedding."""
        neck.require_sphere(type(self).__name__)
        check_slices(self._loss_cfg, neck)

    def set_pair_rules(self, rules: PairRules) -> None:
        """Use the rules of the head."""
        self.rules = rules

    def forward(self, rows: Rows, neck: EmbeddingNeck, step: StepContext | None) -> Tensor:
        """Scalar."""
        rows = rows.with_embeddings(unit_rows(rows, neck, step))
        return self.loss(self.rules.pairs_of(rows))


@MODELS.register_module()
class EmbeddingNorm(BaseModule):
    r"""Keep raw embeddings short: :math:`\frac{1}{B} \sum_i \lVert x_i \rVert^2`, as the N-pairs loss does.

    Sohn, NIPS 2016; the weight of 0.002 is not confirmed as the paper's.

    Config::

        head=dict(regularizers=dict(norm=dict(type='EmbeddingNorm', weight=0.002)))
    """

    def forward(self, rows: Rows, neck: EmbeddingNeck, step: StepContext | None) -> Tensor:
        """Scalar."""
        return rows.embeddings.square().sum() / max(len(rows), 1)


@MODELS.register_module()
class KoLeo(BaseModule):
    r"""Spread rows evenly: :math:`-\frac{1}{B} \sum_i \ln \min_{j \neq i} \lVert u_i - u_j \rVert` of unit rows u.

    Sablayrolles et al., ICLR 2019 (Kozachenko-Leonenko entropy); a term of DINOv2. 0 for fewer than two rows; equal
    rows have the distance 1e-4 and no gradient. 0.1 is the weight in DINOv2's config.

    Config::

        head=dict(regularizers=dict(koleo=dict(type='KoLeo', weight=0.1)))
    """

    def bind(self, neck: EmbeddingNeck) -> None:
        """Refuse a neck without unit vectors."""
        neck.require_sphere(type(self).__name__)

    def forward(self, rows: Rows, neck: EmbeddingNeck, step: StepContext | None) -> Tensor:
        """Scalar."""
        unit = unit_rows(rows, neck, step)
        if len(unit) < 2:
            return 0 * unit.sum()
        other = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
        nearest = (unit @ unit.t()).masked_fill(~other, -2.0).amax(1)
        return -(2 - 2 * nearest).clamp_min(1e-8).log().mean() / 2


@MODELS.register_module()
class AntiCollapse(BaseModule):
    r"""Keep the unit rows Z ``(m, p)`` of a batch from a subspace: a penalty that falls with their coding rate.

    AntiCo, Jiang et al., arXiv 2407.03106, over the rows of the batch:

    .. math:: \exp\Big(-\tfrac{1}{2} \ln \det \big(I + \gamma \tfrac{p}{m \epsilon} Z^T Z\big)\Big)

    in (0, 1]. It is far below 1 for rows that span many dimensions.

    Args:
        epsilon: :math:`\epsilon`, the distortion, above 0.
        gamma: :math:`\gamma`, above 0.

    Raises:
        ValueError: if one is not positive.

    Config::

        head=dict(regularizers=dict(antico=dict(type='AntiCollapse', epsilon=0.5, gamma=1.0, weight=1.0)))
    """

    def __init__(self, epsilon: float = 0.5, gamma: float = 1.0) -> None:
        super().__init__()
        check_positive(epsilon=epsilon, gamma=gamma)
        self.epsilon = epsilon
        self.gamma = gamma

    def bind(self, neck: EmbeddingNeck) -> None:
        """Refuse a neck without unit vectors."""
        neck.require_sphere(type(self).__name__)

    def forward(self, rows: Rows, neck: EmbeddingNeck, step: StepContext | None) -> Tensor:
        """Scalar."""
        unit = unit_rows(rows, neck, step)
        number, width = unit.shape
        # Both products have the same determinant; the smaller one is taken.
        product = unit @ unit.t() if number < width else unit.t() @ unit
        scale = self.gamma * dimensions(unit, step) / (max(number, 1) * self.epsilon)
        rate = torch.linalg.slogdet(torch.eye(len(product), dtype=unit.dtype, device=unit.device) + scale * product)
        return (-0.5 * rate.logabsdet).exp()


@MODELS.register_module()
class CrossBatchSpread(BaseModule):
    r"""Spread classes over the sphere, among the rows of this batch and of those before.

    The global orthogonal regularization of Zhang et al., ICCV 2017, with remembered rows beside those of the
    batch: over the pairs of a real row and a real or remembered row of another class,

    .. math:: M_1^2 + [M_2 - \tfrac{1}{D}]_+, \quad M_1 = \operatorname{mean} s, \; M_2 = \operatorname{mean} s^2

    which vanishes for points that are uniform on the sphere, and without such a pair. The last ``size`` real rows are
    remembered raw, without a graph, in the checkpoint; ranks whose rows the head gathers remember the same.

    Args:
        size: remembered rows, 0 or more.
        embed_dim: width of the embedding.

    Raises:
        ValueError: if ``size`` is negative.

    Config::

        head=dict(regularizers=dict(
            spread=dict(type='CrossBatchSpread', size=1024, embed_dim=512, weight=1.0)))
    """

    def __init__(self, size: int, embed_dim: int) -> None:
        super().__init__()
        check_counts(0, size=size)
        check_counts(embed_dim=embed_dim)
        self.register_buffer('rows', torch.zeros(size, embed_dim))
        #: Classes of the remembered rows, the newest first; -1 where nothing was remembered yet.
        self.register_buffer('labels', torch.full((size,), -1))

    def bind(self, neck: EmbeddingNeck) -> None:
        """Refuse a neck of another width, or without unit vectors."""
        neck.require_sphere('CrossBatchSpread')
        neck.require_width('CrossBatchSpread', self.rows.shape[1])

    def forward(self, rows: Rows, neck: EmbeddingNeck, step: StepContext | None) -> Tensor:
        """Scalar; remembers the rows while training."""
        # Places where nothing was remembered yet are masked: to leave them out, the host would wait for their number.
        remembered = Rows.of_batch(self.rows.to(rows.embeddings.dtype), self.labels)
        anchors = rows.with_embeddings(unit_rows(rows, neck, step))
        unit = torch.cat([anchors.embeddings, unit_rows(remembered, neck, step)])
        similarity = anchors.embeddings @ unit.t()
        labels = torch.cat([rows.labels, remembered.labels])
        is_row = torch.cat([torch.ones_like(rows.labels, dtype=torch.bool), self.labels >= 0])
        apart = (rows.labels[:, None] != labels) & is_row
        number = apart.sum().clamp_min(1)
        first, second = (similarity * apart).sum() / number, (similarity.square() * apart).sum() / number
        if self.training:
            self._remember(rows)
        return first.square() + (second - 1 / dimensions(unit, step)).relu()

    @torch.no_grad()
    def _remember(self, rows: Rows) -> None:
        size = len(self.labels)
        self.rows.copy_(torch.cat([rows.embeddings.to(self.rows.dtype), self.rows])[:size])
        self.labels.copy_(torch.cat([rows.labels, self.labels])[:size])
