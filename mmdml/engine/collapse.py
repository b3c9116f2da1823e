"""Signs that a run has collapsed: scores no better than chance, a loss that does not move."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

# Updates whose losses are compared.
_WINDOW = 20


def chance_of_first_hit(labels: Iterable[Any]) -> tuple[float, float]:
    """Recall@1 of a random order, and the most that chance explains, both in [0, 1].

    With ``n_c`` images of class c of N images, a random other image has the query's class with probability
    ``sum_c n_c (n_c - 1) / (N (N - 1))``; three standard deviations of the mean over N queries are added for the
    second value.
    """
    counts = Counter(labels)
    number = sum(counts.values())
    if number < 2:
        return 1.0, 1.0
    chance = sum(count * (count - 1) for count in counts.values()) / (number * (number - 1))
    return chance, chance + 3 * math.sqrt(chance * (1 - chance) / number)


def too_few_to_tell(labels: Iterable[Any]) -> bool:
    """Whether chance alone may come halfway from its mean to 100 percent, so that a score says little about a run."""
    chance, limit = chance_of_first_hit(labels)
    return limit >= (1 + chance) / 2


def loss_is_stuck(losses: Sequence[float]) -> bool:
    """Whether the last 20 losses are equal up to 1e-6 of their size."""
    last = list(losses)[-_WINDOW:]
    if len(last) < _WINDOW or not all(math.isfinite(loss) for loss in last):
        return False
    return max(last) - min(last) <= 1e-6 * max(1.0, abs(last[-1]))


def describe_collapse(recall: float | None, labels: Sequence[Any] | None, losses: Sequence[float], rate: float) -> str:
    """One line about a collapsed run with its likely causes; '' for a run that learns, or where too little is known.

    Args:
        recall: Recall@1 in percent, None if unknown.
        labels: labels of the images that were scored, None if unknown.
        losses: losses of the updates so far.
        rate: highest learning rate.
    """
    signs, learned = [], False
    if recall is not None and labels is not None:
        chance, limit = chance_of_first_hit(labels)
        learned = recall / 100 > limit or recall == 100
        if not learned and not too_few_to_tell(labels):
            signs.append(f'Recall@1 {recall:.2f} is no better than chance ({100 * chance:.2f})')
    # A loss of 0 beside a score above chance leaves nothing to learn.
    if loss_is_stuck(losses) and not (learned and losses[-1] == 0):
        signs.append(f'the loss stands still at {losses[-1]:.4g}')
    if not signs:
        return ''
    return (
        f'the run has collapsed or does not learn: {" and ".join(signs)}. Likely causes: a learning rate too high '
        f'(optim_wrapper.optimizer.lr is {rate:g}), all embeddings equal, or labels that do not belong to the images'
    )
