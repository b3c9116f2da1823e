"""Supervised contrastive loss."""

from mmdml.registry import MODELS
from mmdml.structures.checks import check_positive

from .n_pairs_loss import NPairsLoss


@MODELS.register_module()
class SupConLoss(NPairsLoss):
    r"""Supervised contrastive loss: every positive in a softmax with all other candidates of its anchor.

    Khosla et al., NeurIPS 2020, Eq. 2 (the mean outside the logarithm): over the anchors a that have a positive,

    .. math:: L = -\operatorname{mean}_a \frac{1}{|P_a|} \sum_{p \in P_a}
        \ln \frac{e^{s_{ap} / \tau}}{\sum_{j \in P_a \cup N_a} e^{s_{aj} / \tau}}

    This is :class:`~mmdml.models.losses.NPairsLoss` with a fixed scale of :math:`1 / \tau`. Equals ``SupConLoss`` of
    pytorch-metric-learning, which averages over the anchors whose loss is above 0 and returns 0 for a batch without
    negatives.

    Args:
        temperature: :math:`\tau`, above 0. 0.1 is that of pytorch-metric-learning.

    Raises:
        ValueError: if ``temperature`` is not positive.

    Config::

        loss=dict(type='SupConLoss', temperature=0.1)
    """

    def __init__(self, temperature: float = 0.1) -> None:
        check_positive(temperature=temperature)
        super().__init__(scale=1 / temperature, learn_scale=False)
        self.temperature = temperature
