"""Checks of the keys of both sides of a search, before any embedding is looked at."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

Keys = Tensor | np.ndarray | Sequence[int] | Sequence[str]


def check_sides(own_gallery: bool, query_keys: Mapping[str, Any], gallery_keys: Mapping[str, Any]) -> None:
    """Whether the keys of both sides go together.

    Args:
        own_gallery: whether the queries search each other.
        query_keys: ``labels``, ``ids`` and ``groups``; None where there are none.
        gallery_keys: the same.

    Raises:
        ValueError: if they do not.
    """
    if own_gallery:
        for name, value in gallery_keys.items():
            if value is not None:
                raise ValueError(f'gallery_{name} were given without a gallery')
    elif gallery_keys['labels'] is None:
        raise ValueError('a gallery needs gallery_labels')
    elif (query_keys['groups'] is None) != (gallery_keys['groups'] is None):
        raise ValueError('query_groups and gallery_groups must be given together: junk is what both sides share')


def resolve_exclude_self(exclude_self: bool | None, ids_known: bool) -> bool:
    """Whether a query is removed from its results: by default if the ids of both sides are known.

    Raises:
        ValueError: if it shall be, and they are not.
    """
    if exclude_self and not ids_known:
        raise ValueError('exclude_self needs query_ids and gallery_ids: which gallery row is the query itself?')
    return ids_known if exclude_self is None else exclude_self
