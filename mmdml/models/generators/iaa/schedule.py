"""When class statistics are estimated and copies are made."""

from dataclasses import dataclass

from mmdml.structures import Progress
from mmdml.utils.numbers import is_number

from .checks import check


@dataclass(frozen=True)
class Schedule:
    """Onset, warm-up and interval of IAA; spans are epochs (int) or a fraction of the run (float in [0, 1]).

    Attributes:
        onset: training before the first estimate.
        warmup: further training with estimates but without copies.
        update_interval: between two estimates, > 0.
        from_bank: estimates come from the bank, which is read after it had one epoch to fill, not before.

    Raises:
        ValueError: for values out of range.
    """

    onset: int | float
    warmup: int | float
    update_interval: int | float
    from_bank: bool

    def __post_init__(self) -> None:
        for name in ('onset', 'warmup', 'update_interval'):
            span = getattr(self, name)
            fits = is_number(span) and span >= 0 and (isinstance(span, int) or span <= 1)
            check(name, span, fits, 'epochs (an integer >= 0) or a fraction of the run (a float in [0, 1])')
        check('update_interval', self.update_interval, self.update_interval > 0, '> 0')

    def first_estimate(self, progress: Progress) -> int:
        """0-based iteration of the first estimate."""
        return max(progress.iterations(self.onset), progress.epoch_length if self.from_bank else 0)

    def first_copies(self, progress: Progress) -> int:
        """0-based iteration of the first copies."""
        return self.first_estimate(progress) + progress.iterations(self.warmup)

    def estimate_due(self, progress: Progress) -> bool:
        """Whether an estimate is due before this iteration: at the onset and every ``update_interval`` after it."""
        since = progress.iter - self.first_estimate(progress)
        return since >= 0 and since % max(progress.iterations(self.update_interval), 1) == 0

    def check(self, progress: Progress) -> None:
        """Refuse a run that would end before the first copies; ``onset=1.0`` says that this is meant.

        Raises:
            ValueError: naming the settings and the length of the run.
        """
        meant = isinstance(self.onset, float) and self.onset == 1
        if self.first_copies(progress) >= progress.max_iters and not meant:
            source = 'bank' if self.from_bank else 'sweep'
            raise ValueError(
                f'IAA would never begin: onset={self.onset}, warmup={self.warmup} and source='
                f"'{source}' need {self.first_copies(progress)} iterations before it, but the run has "
                f'{progress.max_iters} ({progress.max_epochs} epochs). Lower onset, e.g. to a fraction of the run'
            )
