"""Stages of a divided run: warm-up, divide, joint, fine-tune (D&C)."""

from dataclasses import dataclass
from typing import Literal

from mmdml.utils.numbers import is_number

Stage = Literal['warm_up', 'divide', 'joint', 'fine_tune']


def num_clusters_at(epoch: int, final: int, interval: int) -> int:
    """Clusters of the hierarchical division (D&C+, TPAMI 2021): ``K(e) = min(K_f, 2^floor(e / T))``.

    Args:
        epoch: e, 0-based; count from the start of the divide stage if there is a warm-up.
        final: K_f, a power of two.
        interval: T, epochs between divisions, at least 1.

    Returns:
        A power of two, 1..K_f.

    Raises:
        ValueError: if ``epoch`` is negative, ``final`` no power of two, or ``interval`` below 1.
    """
    if epoch < 0:
        raise ValueError(f'epoch must not be negative, got {epoch}')
    if final < 1 or final & (final - 1):
        raise ValueError(f'final must be a power of two, because every division cuts clusters in half, got {final}')
    if interval < 1:
        raise ValueError(f'interval must be at least 1 epoch, got {interval}')
    # Capped before the power is taken: a long run would otherwise build huge integers.
    return 2 ** min(epoch // interval, final.bit_length() - 1)


@dataclass(frozen=True)
class Stages:
    """First epochs of the stages of a D&C run; a stage of no epochs is left out.

    ===========  ====================================  =======================  ====================
    stage        epochs e                              batches from             vector in the loss
    ===========  ====================================  =======================  ====================
    warm_up      ``e < warm_up``                       the whole training set   full embedding
    divide       ``warm_up <= e < divide_until``       one cluster              the learner's own
    joint        ``divide_until <= e`` until the next  one cluster              full embedding
    fine_tune    ``e >= fine_tune_from``               the whole training set   full embedding
    ===========  ====================================  =======================  ====================

    The paper (CVPR 2019, Sec. 3.3) has no joint stage: ``divide_until == fine_tune_from``. Its release runs 200 epochs
    with ``Stages(0, 80, 190)``, the TPAMI release 180 with ``Stages(0, 80)``.

    Attributes:
        warm_up: epochs before the first division, 0 for none.
        divide_until: first epoch in which the learners are joined.
        fine_tune_from: first epoch on the whole training set, None for never.

    Raises:
        ValueError: unless ``0 <= warm_up <= divide_until <= fine_tune_from``, all of them whole numbers.
    """

    warm_up: int
    divide_until: int
    fine_tune_from: int | None = None

    def __post_init__(self) -> None:
        bounds = [0, self.warm_up, self.divide_until]
        if self.fine_tune_from is not None:
            bounds.append(self.fine_tune_from)
        if not all(is_number(bound) and float(bound).is_integer() for bound in bounds):
            # A fraction of the run, as other spans may be, would pass every comparison with an epoch.
            raise ValueError(
                'stages begin at whole epochs: warm_up, divide_until and fine_tune_from must be whole numbers, got '
                f'{self.warm_up!r}, {self.divide_until!r} and {self.fine_tune_from!r}'
            )
        if bounds != sorted(bounds):
            raise ValueError(
                'stages must follow each other, 0 <= warm_up <= divide_until <= fine_tune_from, got '
                f'warm_up={self.warm_up}, divide_until={self.divide_until}, fine_tune_from={self.fine_tune_from}'
            )

    def first_division(self, interval: int, hierarchical: bool) -> int:
        """Return the epoch in which the images are divided first; a hierarchy begins with one cluster."""
        return self.warm_up + (interval if hierarchical else 0)

    def at(self, epoch: int) -> Stage:
        """Return the stage of a 0-based epoch.

        Raises:
            ValueError: if ``epoch`` is negative.
        """
        if epoch < 0:
            raise ValueError(f'epoch must not be negative, got {epoch}')
        if epoch < self.warm_up:
            return 'warm_up'
        if epoch < self.divide_until:
            return 'divide'
        if self.fine_tune_from is None or epoch < self.fine_tune_from:
            return 'joint'
        return 'fine_tune'
