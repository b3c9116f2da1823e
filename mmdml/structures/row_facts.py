"""Labels, roles, identities, groups, parts and paths of the images of a dataset."""

import hashlib
import os
import os.path as osp
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from mmdml.utils.arrays import plain_strings
from mmdml.utils.names import printable

#: Values of a role.
QUERY_AND_GALLERY, QUERY, GALLERY = 0, 1, 2
#: Their names in lists and tables.
ROLE_NAMES = {'both': QUERY_AND_GALLERY, 'query': QUERY, 'gallery': GALLERY}

Keys = Tensor | np.ndarray | Sequence[int] | Sequence[str]


@dataclass(frozen=True)
class RowFacts:
    """What is known of N images, beside their embeddings.

    Attributes:
        labels: ``(N,)`` integers or strings.
        roles: ``(N,)`` of 0 (query and gallery), 1 (query) or 2 (gallery).
        ids: ``(N,)`` integers or strings; rows of one id are the same image, which never finds itself.
        groups: ``(N,)`` integers or strings, such as cameras; None: there are none.
        parts: ``(N,)`` integers or strings, the part of the dataset that a row belongs to; None: there is one.
        paths: ``(N,)`` strings, the image files, '' where unknown; None: all unknown.
        class_names: C names, of the labels 0 to C - 1 (-1: no label); None: unknown, or the labels are names.
        more: ``(N,)`` integers or strings by name: further columns of the dataset, such as a coarse label.
    """

    labels: np.ndarray
    roles: np.ndarray
    ids: np.ndarray
    groups: np.ndarray | None = None
    parts: np.ndarray | None = None
    paths: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None
    more: Mapping[str, np.ndarray] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(
        cls,
        labels: Keys,
        roles: Keys | None = None,
        ids: Keys | None = None,
        groups: Keys | None = None,
        parts: Keys | None = None,
        paths: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        more: Mapping[str, Keys] | None = None,
    ) -> 'RowFacts':
        """Facts as vectors of one length.

        Args:
            labels: ``(N,)``.
            roles: ``(N,)``. Default: all 0.
            ids: ``(N,)``. Default: rows of one file are one image (:func:`image_ids`), and where files are unknown
                every row is an image of its own.
            groups: ``(N,)`` or None.
            parts: ``(N,)`` or None.
            paths: ``(N,)`` or None.
            class_names: C names or None.
            more: ``(N,)`` each by name, or None.

        Raises:
            ValueError: if there are no rows, a length differs, a role is unknown, one file has two labels, or a label
                has no name in ``class_names``.
        """
        labels = _vector(labels)
        if labels.ndim != 1 or len(labels) == 0:
            raise ValueError(f'labels must be a vector of at least one entry, got shape {labels.shape}')
        vectors = dict(roles=roles, ids=ids, groups=groups, parts=parts, paths=paths)
        known = {name: _vector(values) for name, values in vectors.items() if values is not None}
        more = {name: _vector(values) for name, values in (more or {}).items()}
        for name, values in (known | more).items():
            if values.shape != labels.shape:
                raise ValueError(f'{name} must have shape {labels.shape}, one per label, got {values.shape}')
        if ids is None:
            known['ids'] = np.arange(len(labels)) if paths is None else image_ids(known['paths'])
            if paths is not None:
                check_one_label_per_image(labels, known['ids'], known['paths'])
        known.setdefault('roles', np.zeros(len(labels), np.int64))
        unknown = np.setdiff1d(known['roles'], list(ROLE_NAMES.values()))
        if len(unknown):
            raise ValueError(f'roles must be 0 (both), 1 (query) or 2 (gallery), got {unknown[:5].tolist()}')
        if (
            class_names is not None
            and labels.dtype.kind in 'iu'
            and not -1 <= labels.min() <= labels.max() < len(class_names)
        ):
            raise ValueError(
                f'there are {len(class_names)} class_names, but labels from {labels.min()} to {labels.max()}'
            )
        return cls(labels, **known, class_names=None if class_names is None else tuple(class_names), more=more)

    def __len__(self) -> int:
        return len(self.labels)

    def columns(self) -> dict[str, np.ndarray]:
        """Vectors of one entry a row, by name; those that are not known, and ``more``, are left out."""
        names = [one.name for one in fields(self) if one.name not in ('class_names', 'more')]
        known = {name: getattr(self, name) for name in names}
        return {name: values for name, values in known.items() if values is not None}

    def take(self, rows: np.ndarray) -> 'RowFacts':
        """Facts of some rows."""
        more = {name: values[rows] for name, values in self.more.items()}
        return replace(self, more=more, **{name: values[rows] for name, values in self.columns().items()})


@runtime_checkable
class ColumnReader(Protocol):
    """A part of the model that reads columns of the training set; ``DatasetColumnsHook`` finds it."""

    def read_columns(self, labels: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        """Read ``(N,)`` labels and columns by name, in the order of the dataset."""
        ...


def image_identity(path: str) -> str:
    """Return the one name of an image file: ``./a/../b.png``, ``b.png`` and links to it have the same.

    Addresses (``s3://...``) stay as they are.
    """
    if '://' in path:
        return path
    folder, name = osp.split(path)
    # Absolute: what a relative folder is depends on the current one.
    path = osp.join(_real_folder(osp.join(os.getcwd(), folder)), name)
    return osp.realpath(path) if osp.islink(path) else osp.normpath(path)


@lru_cache(maxsize=4096)
def _real_folder(folder: str) -> str:
    return osp.realpath(folder)


def image_ids(paths: Sequence[str], rows: Sequence[int] | None = None) -> np.ndarray:
    """``(N,)`` int64, equal where two paths name one file; a row without a path ('') is an image of its own.

    Known files get a 63-bit digest of their name, so that ids can be compared between processes; among ten million
    files two share one with a probability of 5e-6.

    Args:
        paths: N paths.
        rows: N row numbers, for rows without a path. Default: 0 to N - 1.
    """
    rows = range(len(paths)) if rows is None else rows
    pairs = zip(map(str, paths), rows, strict=True)
    ids = [text_digest(image_identity(path)) if path else -1 - row for path, row in pairs]
    return np.array(ids, dtype=np.int64)


def text_digest(text: str) -> int:
    """Hash a text to a number of 63 bits, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=8).digest(), 'little') >> 1


def check_one_label_per_image(labels: np.ndarray, ids: np.ndarray, paths: Sequence[str] | None = None) -> None:
    """Check that rows of one image have one label.

    Args:
        labels: ``(N,)``.
        ids: ``(N,)``, equal for rows of one image.
        paths: N names for the message.

    Raises:
        ValueError: names the first image with two labels.
    """
    order = np.argsort(ids, kind='stable')
    same_image = ids[order][1:] == ids[order][:-1]
    conflicts = np.flatnonzero(same_image & (labels[order][1:] != labels[order][:-1]))
    if len(conflicts):
        first, second = order[conflicts[0]], order[conflicts[0] + 1]
        named = f'rows {first} and {second}'
        if paths is not None:
            named = f'{printable(paths[first])} and {printable(paths[second])}'
        raise ValueError(
            f'{named} are one image, but have the labels {labels[first]!s} and {labels[second]!s}; an image has one '
            f'label ({len(conflicts)} such pairs)'
        )


def _vector(values: Any) -> np.ndarray:
    return plain_strings(np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values))
