"""What a head decides about pairs, for its parts that build pairs of their own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from .pair_batch import PairBatch
from .rows import Rows


@dataclass(frozen=True)
class PairRules:
    """Which rows form a positive, a negative or no pair, beside what their labels say.

    Attributes:
        exclude_same_image: as :class:`~mmdml.structures.PairBatch` has it.
        targets_of: returns how much each pair of two ``Rows`` is a positive, ``(A, X)``. Default: as the labels say.
    """

    exclude_same_image: bool = False
    targets_of: Callable[[Rows, Rows], Tensor] | None = None

    def pairs_of(self, rows: Rows) -> PairBatch:
        """Return the pairs of rows among themselves."""
        targets = self.targets_of(rows, rows) if self.targets_of else None
        return PairBatch(rows, rows, self.exclude_same_image, targets=targets)


@runtime_checkable
class PairRulesReceiver(Protocol):
    """A part of a head that builds pairs; the head tells it its rules when the model is built."""

    def set_pair_rules(self, rules: PairRules) -> None:
        """Use the rules from now on."""
