"""What all miners share."""

from abc import ABCMeta, abstractmethod

from mmdml.structures import Mined, PairBatch
from mmdml.utils.representation import constructor_arguments


class Miner(metaclass=ABCMeta):
    """Choose the pairs or triplets of a batch that a loss uses.

    The head hands over pairs without a graph (:meth:`~mmdml.structures.PairBatch.detach`); draws come from
    ``pairs.random``.
    """

    @abstractmethod
    def __call__(self, pairs: PairBatch) -> Mined:
        """Mine a batch."""

    def __repr__(self) -> str:
        return f'{type(self).__name__}({constructor_arguments(self)})'
