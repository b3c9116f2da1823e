"""The position of a run, in the units of schedules."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Position of the iteration about to run.

    Iteration-based runs have epochs too: one pass of the training loader.

    Attributes:
        iter: 0-based iteration.
        max_iters: iterations of the whole run.
        epoch_length: iterations of one epoch.
        seed: seed of the run.
        rank: process rank.
        world_size: number of processes.
    """

    iter: int
    max_iters: int
    epoch_length: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1

    @property
    def epoch(self) -> int:
        """0-based epoch."""
        return self.iter // self.epoch_length

    @property
    def max_epochs(self) -> int:
        """Epochs of the whole run, a started one counts."""
        return math.ceil(self.max_iters / self.epoch_length)

    def iterations(self, span: int | float) -> int:
        """Convert a span in epochs (int) or as a fraction of the run (float in [0, 1]) to iterations."""
        if isinstance(span, int):
            return span * self.epoch_length
        return math.ceil(span * self.max_iters)
