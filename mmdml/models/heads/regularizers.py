"""Terms that are added beside the loss."""

from mmengine.model import BaseModule
from torch import Tensor

from mmdml.models.necks import EmbeddingNeck
from mmdml.registry import MODELS
from mmdml.structures import Rows, StepContext


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
