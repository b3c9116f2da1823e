"""What a training step belongs to: the position of the run and the active learner."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from torch import nn

from .partition import ActiveLearner
from .progress import Progress
from .rows import Rows


@dataclass(frozen=True, eq=False)
class StepContext:
    """Set once per training step on the model, by ``StepContextHook``; read by the head and its sources.

    Attributes:
        progress: position of the step in the run.
        learner: the learner that the step trains; None: the whole embedding.
        receivers: called with the step's real rows, see :meth:`publish`.
    """

    progress: Progress
    learner: ActiveLearner | None = None
    receivers: tuple[Callable[[Rows], None], ...] = ()

    @property
    def learner_index(self) -> int | None:
        """Index of the learner, None for the whole embedding."""
        return None if self.learner is None else self.learner.index

    def with_shared_rows(self) -> 'StepContext':
        """Return the same step for ranks that all hold the rows of all ranks: as one process with the whole batch."""
        return replace(self, progress=replace(self.progress, rank=0, world_size=1))

    def publish(self, rows: Rows) -> None:
        """Pass the step's real rows to the receivers, e.g. the embedding bank, without a graph."""
        if self.receivers:
            rows = rows.detach()
            for receive in self.receivers:
                receive(rows)


@runtime_checkable
class LearnerProvider(Protocol):
    """A hook that chooses the learner of each step; ``StepContextHook`` finds it among the hooks of the run."""

    def learner_of_step(self, runner: Any, batch_idx: int, data_batch: Any) -> int | None:
        """Index of the learner that the batch trains, None for the whole embedding."""


@runtime_checkable
class TeacherReceiver(Protocol):
    """A part of the model that learns from another model; ``MeanTeacherHook`` finds it."""

    def set_teacher(self, teacher: nn.Module) -> None:
        """Use a model of the same kind."""


@runtime_checkable
class LateStarter(Protocol):
    """A part of the model, or a hook, that does nothing at first; ``StepContextHook`` warns if it never begins."""

    def first_step(self, progress: Progress) -> int:
        """Return the iteration, from 0, in which it begins."""


@runtime_checkable
class RowReceiver(Protocol):
    """A hook that receives the real rows of each training step; ``StepContextHook`` finds it."""

    def receive_rows(self, rows: Rows) -> None:
        """Use the rows: those of all ranks if the head gathers, raw, without a graph."""
