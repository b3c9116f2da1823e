"""What all losses share."""

from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from mmdml.structures import Mined, PairBatch
from mmdml.utils.representation import constructor_arguments

from .checks import check_arguments, check_hard_targets


class Loss(nn.Module, metaclass=ABCMeta):
    """A scalar of a :class:`~mmdml.structures.PairBatch`, called as ``loss(pairs, mined=None)``.

    Whether candidates are real, synthetic, remembered or from another rank makes no difference. A batch without a
    single term gives a zero that still hangs on the graph.
    """

    #: Pairs may have targets between 0 and 1. A loss that uses nothing but ``pairs.weights(mined)`` can say True.
    soft_targets: ClassVar[bool] = False

    def __call__(self, pairs: PairBatch, *args: Any, **kwargs: Any) -> Tensor:
        """Refuse what the loss cannot use, then run :meth:`forward`.

        Raises:
            TypeError: if ``pairs`` is no ``PairBatch``, or ``mined`` nothing that a miner returns.
            ValueError: naming the loss.
        """
        if args or kwargs or not isinstance(pairs, PairBatch):
            check_arguments(pairs, args[0] if args else kwargs.get('mined'), type(self).__name__)
        self.check_targets(pairs)
        return super().__call__(pairs, *args, **kwargs)

    def check_targets(self, pairs: PairBatch) -> None:
        """Refuse targets that the loss cannot use.

        Raises:
            ValueError: naming the loss.
        """
        if pairs.targets is not None and not self.soft_targets:
            check_hard_targets(pairs.targets, type(self).__name__)

    @abstractmethod
    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss of a batch."""

    def extra_repr(self) -> str:
        return constructor_arguments(self)


class PairLoss(Loss):
    """A loss over pairs of anchors and candidates; mined tuples replace the selection it would make on its own."""
