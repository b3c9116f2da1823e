"""What all losses share."""

from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import require
from mmdml.utils.representation import constructor_arguments


class Loss(nn.Module, metaclass=ABCMeta):
    """A scalar of a :class:`~mmdml.structures.PairBatch`, called as ``loss(pairs, mined=None)``.

    Whether candidates are real, synthetic, remembered or from another rank makes no difference. A batch without a
    single term gives a zero that still hangs on the graph.
    """

    #: Pairs may have targets between 0 and 1. A loss that uses nothing but ``pairs.weights(mined)`` can say True.
    soft_targets: ClassVar[bool] = False

    def __call__(self, pairs: PairBatch, *args: Any, **kwargs: Any) -> Tensor:
        """Refuse soft targets where the loss cannot use them, then run :meth:`forward`.

        Raises:
            ValueError: naming the loss.
        """
        self.check_targets(pairs)
        return super().__call__(pairs, *args, **kwargs)

    def check_targets(self, pairs: PairBatch) -> None:
        """Refuse targets that the loss cannot use.

        Raises:
            ValueError: naming the loss.
        """
        if pairs.targets is not None and not self.soft_targets:
            hard = (pairs.targets == 0) | (pairs.targets == 1)
            text = f'{type(self).__name__} cannot use soft targets: each must be 0 or 1'
            require(hard.all(), text, lambda: pairs.targets[~hard][0].item())

    @abstractmethod
    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss of a batch."""

    def extra_repr(self) -> str:
        return constructor_arguments(self)


class PairLoss(Loss):
    """A loss over pairs of anchors and candidates; mined tuples replace the selection it would make on its own."""
