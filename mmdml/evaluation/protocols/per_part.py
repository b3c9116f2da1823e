"""Test sets of several parts, scored in one run."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mmdml.registry import PROTOCOLS
from mmdml.structures.row_facts import RowFacts
from mmdml.utils.near_names import did_you_mean

from .base import Protocol, Split
from .roles import by_roles


def build_protocol(protocol: dict | Protocol | None) -> Protocol:
    """Build a protocol from its config; None: roles decide (:func:`by_roles`).

    Raises:
        TypeError: if it is neither a config nor something to call.
        KeyError: if there is no protocol of its type.
    """
    if protocol is None:
        return by_roles
    if isinstance(protocol, dict):
        kind = protocol.get('type')
        if isinstance(kind, str) and PROTOCOLS.get(kind) is None:
            known = sorted(PROTOCOLS.module_dict)
            raise KeyError(f'there is no protocol {kind!r}; known are {known}{did_you_mean(kind, known)}')
        return PROTOCOLS.build(protocol)
    if isinstance(protocol, Callable):
        return protocol
    raise TypeError(f"a protocol is a config such as dict(type='LeaveOneOut'), got {protocol!r}")


@PROTOCOLS.register_module()
class PerPart:
    """Each part of the test set by itself, its scores under its own name: 'small/Recall@1', 'large/Recall@1'.

    Parts are the datasets of a :class:`mmdml.datasets.RetrievalConcatDataset`, or what saved embeddings have under
    ``parts``. No image searches another part.

    Args:
        protocol: inner protocol of all parts, or a sequence with one for each. Default: roles decide.
        names: of the parts, in their order. Default: as the test set calls them, '0', '1', ... for a concatenation.

    Raises:
        TypeError: if a protocol is none.

    Example:
        >>> sizes = ('small', 'medium', 'large')
        >>> parts = [dict(type='VehicleID', split='test', size=size, pipeline=[...]) for size in sizes]
        >>> dataset = dict(type='RetrievalConcatDataset', label_space='shared', datasets=parts)
        >>> test_evaluator = dict(
        ...     type='RetrievalMetric',
        ...     protocol=dict(type='PerPart', names=sizes, protocol=dict(type='SingleGalleryShot')))
    """

    def __init__(
        self,
        protocol: dict | Protocol | Sequence[dict | Protocol | None] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.per_part = isinstance(protocol, (list, tuple))
        self.protocols = [build_protocol(part) for part in (protocol if self.per_part else [protocol])]
        self.names = names

    def __call__(self, facts: RowFacts) -> Iterator[Split]:
        """Return the splits of all parts.

        Raises:
            ValueError: if there are no parts, or not as many as names or protocols.
        """
        if facts.parts is None:
            raise ValueError(
                "PerPart needs the part of each image: score a RetrievalConcatDataset, or saved embeddings with 'parts'"
            )
        values, first = np.unique(facts.parts, return_index=True)
        values = values[np.argsort(first)]
        names = [str(value) for value in values] if self.names is None else self.names
        protocols = self.protocols if self.per_part else self.protocols * len(values)
        for what, given in (('names', names), ('protocols', protocols)):
            if len(given) != len(values):
                raise ValueError(f'PerPart has {len(given)} {what}, but the test set has {len(values)} parts')
        for value, name, protocol in zip(values, names, protocols, strict=True):
            rows = np.flatnonzero(facts.parts == value)
            for query, gallery, prefix in protocol(facts.take(rows)):
                yield Split(rows[query], None if gallery is None else rows[gallery], f'{name}/{prefix}')
