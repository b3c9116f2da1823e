"""Configs of losses that know the width of the rows they score."""

from collections.abc import Callable, Mapping
from typing import Any

# mmdml's name for it, and those of pytorch-metric-learning.
_WIDTHS = ('embed_dim', 'embedding_size', 'descriptors_dim')


def at_width(loss: Mapping[str, Any], width: Callable[[int], int]) -> dict[str, Any]:
    """Return the config of a loss for rows of another width, also where the loss is inside another one.

    Args:
        loss: config.
        width: from the width in the config to the other.
    """
    inner = loss.get('loss')
    wrapped = dict(loss=at_width(inner, width)) if isinstance(inner, Mapping) else {}
    return {**loss, **{name: width(loss[name]) for name in _WIDTHS if name in loss}, **wrapped}


def check_slices(loss: Mapping[str, Any], neck: Any) -> None:
    """Refuse a loss that is made for the whole embedding where each learner has a slice of it.

    Args:
        loss: config.
        neck: that has the learners.

    Raises:
        ValueError: naming the loss.
    """
    if neck.num_learners > 1 and neck.partition is not None and at_width(loss, lambda width: 0) != loss:
        raise ValueError(
            f'{loss["type"]} has proxies as wide as the whole embedding, which cannot be cut into slices: use '
            "division='masks', or a class-based loss of mmdml by itself as head.loss"
        )
