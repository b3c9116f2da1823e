"""Stores that are served, each with the model that made its embeddings."""

import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmdml.index import Row, VectorStore, open_store
from mmdml.utils.names import printable

# Seconds for which lists of ids and labels are kept at least.
_FRESH = 10.0


@dataclass(frozen=True)
class Hit:
    """A row of a gallery, with its cosine similarity to the query; None where there is no query."""

    row: Row
    score: float | None = None

    @property
    def label(self) -> str:
        """The label as text that can be shown."""
        return printable(self.row.item.label)

    @property
    def path(self) -> str:
        """The path as text that can be shown."""
        return printable(self.row.item.path)


@dataclass(frozen=True)
class Labels:
    """Labels of a store as text that can be shown, in order.

    Attributes:
        counts: shown label -> number of rows.
        kept: shown label -> labels of the store; those that differ in what cannot be shown share one.
    """

    counts: dict[str, int]
    kept: dict[str, list[str]]


class Gallery:
    """A store, its model, and a name that addresses can hold.

    Args:
        name: what the page calls it.
        store: opened to read.
        embed: the :class:`~mmdml.apis.ImageEmbeddingInferencer` that made its embeddings.
        address: of the store, by which marks are kept; default: the name.
        model_name: what the page calls the model.

    Raises:
        ValueError: the store is another model's.
    """

    def __init__(
        self, name: str, store: VectorStore, embed: object, address: str | None = None, model_name: str = ''
    ) -> None:
        from mmdml.apis.gallery_update import require_same_model

        require_same_model(store, embed)
        self.title, self.name = printable(name), _slug(name)
        self.store, self.embed = store, embed
        self.address, self.model_name = address or name, printable(model_name)
        self.model_hash = store.model_hash
        self._labels: tuple[float, Labels] | None = None
        self._ids: tuple[float, np.ndarray] | None = None
        self._listing = threading.Lock()
        # One thread computes: torch and BLAS have workers of their own, which many callers at once would only hinder.
        self._computing = ThreadPoolExecutor(1, thread_name_prefix='compute')

    def vector(self, pixels: np.ndarray) -> np.ndarray:
        """Return the ``(1, D)`` embedding of an ``(H, W, 3)`` picture in the order red, green, blue.

        Raises:
            ValueError: the pipeline does not take it.
        """
        found = self._computing.submit(self.embed, np.ascontiguousarray(pixels[:, :, ::-1])).result()
        if not len(found.embeddings):
            raise ValueError(found.unreadable[0].reason)
        return found.embeddings

    def nearest(self, vector: np.ndarray, k: int, labels: Sequence[str] = (), without: int | None = None) -> list[Hit]:
        """Return the k rows nearest to a ``(1, D)`` embedding.

        Args:
            vector: of the query.
            k: number of rows.
            labels: shown labels that rows must have; none for all.
            without: id of a row to leave out.
        """
        where = self._where(labels) if labels else None
        found = self._computing.submit(self.store.search, vector, k + (without is not None), where).result()
        near = [
            (id, score) for id, score in zip(found.ids[0].tolist(), found.scores[0].clip(-1, 1).tolist(), strict=True)
        ]
        near = [(id, score) for id, score in near if id not in (-1, without)][:k]
        rows = self.store.get([id for id, _ in near])
        return [Hit(row, score) for row, (_, score) in zip(rows, near, strict=True) if row is not None]

    def row(self, id: int) -> Row | None:
        """Return a row, None if there is none of this id."""
        return self.store.get([id])[0] if 0 <= id < 1 << 62 else None

    def sample(self, number: int, labels: Sequence[str] = ()) -> list[Hit]:
        """Return rows spread over the gallery, of these shown labels only if there are any."""
        ids = self.store.ids(self._where(labels)) if labels else self.ids()
        rows = self.store.get(spread(ids, number).tolist())
        return [Hit(row) for row in rows if row is not None]

    def ids(self) -> np.ndarray:
        """Return the ids of all rows, ``(N,)`` int64; a writer's changes show after some seconds."""
        with self._listing:
            if self._ids is None or time.monotonic() > self._ids[0]:
                start = time.monotonic()
                found = self.store.ids()
                # A list that takes long to make is kept longer.
                self._ids = time.monotonic() + max(_FRESH, 30 * (time.monotonic() - start)), found
            return self._ids[1]

    def labels(self) -> Labels:
        """Return the labels; a writer's changes show after some seconds."""
        with self._listing:
            if self._labels is None or time.monotonic() > self._labels[0]:
                self._labels = time.monotonic() + _FRESH, _labels(self.store.values('label'))
            return self._labels[1]

    def _where(self, labels: Sequence[str]) -> dict[str, list[str]]:
        kept = self.labels().kept
        # A label that the store does not have finds nothing.
        return dict(label=[label for shown in labels for label in kept.get(shown, [shown])])

    def close(self) -> None:
        """Close the store."""
        self._computing.shutdown()
        self.store.close()


def spread(ids: np.ndarray, number: int) -> np.ndarray:
    """Return up to ``number`` of the ids, evenly spread."""
    return ids if len(ids) <= number else ids[np.linspace(0, len(ids) - 1, number).astype(int)]


def open_galleries(
    addresses: Sequence[str | Path],
    model: str | None = None,
    device: str | None = None,
) -> list[Gallery]:
    """Open stores to read, each named after its folder; stores of one model share it.

    Args:
        addresses: of the stores.
        model: of all of them, as :func:`~mmdml.apis.model_names.find_model` takes it. Default: the one that each store
            names.
        device: where to compute. Default: the GPU where there is one.

    Raises:
        FileNotFoundError: there is no store.
        ValueError: a store names no model, or is another model's.
    """
    galleries: list[Gallery] = []
    stores: list[VectorStore] = []
    try:
        for address in addresses:
            stores.append(open_store(address))
        from mmdml.apis import ImageEmbeddingInferencer

        embedders: dict[str, ImageEmbeddingInferencer] = {}
        for address, store in zip(addresses, stores, strict=True):
            named = model or store.model
            if not named:
                raise ValueError(f'{printable(address)} does not name its model; name it with --model')
            if named not in embedders:
                embedders[named] = ImageEmbeddingInferencer(named, device=device, progress=False, workers=1)
            place = str(address) if '://' in str(address) else str(Path(address).absolute())
            name = unused_name(Path(place).name, [each.name for each in galleries])
            galleries.append(Gallery(name, store, embedders[named], place, _short(named)))
    except BaseException:
        for each in stores:
            each.close()
        raise
    return galleries


def _short(model: str) -> str:
    """Name of a model without folders, checkpoint and ending."""
    return Path(model.partition(':')[0]).name.removesuffix('.py')


def unused_name(name: str, taken: Sequence[str]) -> str:
    """Return a name whose form in addresses no other gallery has."""
    numbered, number = name, 1
    while _slug(numbered) in taken:
        number += 1
        numbered = f'{name} {number}'
    return numbered


def _slug(name: str) -> str:
    return re.sub(r'[^A-Za-z0-9_-]+', '-', name).strip('-') or 'store'


def _labels(values: dict[str, int]) -> Labels:
    counts: dict[str, int] = {}
    kept: dict[str, list[str]] = {}
    for label, count in values.items():
        shown = printable(label)
        if shown:
            counts[shown] = counts.get(shown, 0) + count
            kept.setdefault(shown, []).append(label)
    return Labels({shown: counts[shown] for shown in sorted(counts, key=_natural)}, kept)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key that takes digits as numbers: class 9 comes before class 10."""
    return [(int(part), '') if part.isascii() and part.isdigit() else (-1, part) for part in re.split(r'(\d+)', name)]
