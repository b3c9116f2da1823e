"""Units in which scores are shown: percent, but for thresholds and variances."""

from collections.abc import Mapping

# Scores that are no shares of anything, by the beginning of their names.
_AS_THEY_ARE = ('threshold@', 'OPIS')


def as_percent(scores: Mapping[str, float]) -> dict[str, float]:
    """Shares in percent; thresholds and OPIS as they are."""
    return {name: value if _is_plain(name) else 100 * value for name, value in scores.items()}


def score_text(name: str, value: float) -> str:
    """Return a score of :func:`as_percent` as text, with two decimals or four digits."""
    return f'{value:.4g}' if _is_plain(name) else f'{value:.2f}'


def _is_plain(name: str) -> bool:
    return name.rpartition('/')[2].startswith(_AS_THEY_ARE)
