"""Stores that are served, each with the model that made its embeddings."""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmdml.index import Row, VectorStore
from mmdml.utils.names import printable

#: Rows that a map shows at most, spread over the store.
MAP_ROWS = 4000


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
class Survey:
    """What one pass over a store found.

    Attributes:
        count: rows of the store then.
        ids: ``(N,)`` int64 ids of the rows.
        labels: shown form -> labels of the store, in order; labels that differ in what cannot be shown share one.
        numbers: rows of each shown label.
        label_of: ``(N,)`` index into ``labels`` for each row, -1 for none.
    """

    count: int
    ids: np.ndarray
    labels: dict[str, list[str]]
    numbers: dict[str, int]
    label_of: np.ndarray


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
        self._survey: Survey | None = None
        self._surveying, self._embedding = threading.Lock(), threading.Lock()

    def vector(self, pixels: np.ndarray) -> np.ndarray:
        """Return the ``(1, D)`` embedding of an ``(H, W, 3)`` picture in the order red, green, blue.

        Raises:
            ValueError: the pipeline does not take it.
        """
        with self._embedding:
            found = self.embed(np.ascontiguousarray(pixels[:, :, ::-1]))
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
        found = self.store.search(vector, k + (without is not None), where)
        near = [(id, score) for id, score in zip(found.ids[0].tolist(), found.scores[0].tolist(), strict=True)]
        near = [(id, score) for id, score in near if id not in (-1, without)][:k]
        rows = self.store.get([id for id, _ in near])
        return [Hit(row, score) for row, (_, score) in zip(rows, near, strict=True) if row is not None]

    def row(self, id: int) -> Row | None:
        """Return a row, None if there is none of this id."""
        return self.store.get([id])[0] if 0 <= id < 1 << 62 else None

    def sample(self, number: int, labels: Sequence[str] = ()) -> list[Hit]:
        """Return rows spread over the gallery, of these shown labels only if there are any."""
        survey = self.survey()
        ids = survey.ids
        if labels:
            chosen = [number for number, label in enumerate(survey.labels) if label in labels]
            ids = ids[np.isin(survey.label_of, chosen)]
        rows = self.store.get(spread(ids, number).tolist())
        return [Hit(row) for row in rows if row is not None]

    def survey(self) -> Survey:
        """Return ids and labels of all rows; taken anew when the number of rows has changed."""
        with self._surveying:
            count = self.store.count()
            if self._survey is None or self._survey.count != count:
                self._survey = _survey(self.store, count)
            return self._survey

    def _where(self, labels: Sequence[str]) -> dict[str, list[str]]:
        known = self.survey().labels
        # A label that the store does not have finds nothing.
        return dict(label=[label for shown in labels for label in known.get(shown, [shown])])

    def close(self) -> None:
        """Close the store."""
        self.store.close()


def spread(ids: np.ndarray, number: int) -> np.ndarray:
    """Return up to ``number`` of the ids, evenly spread."""
    return ids if len(ids) <= number else ids[np.linspace(0, len(ids) - 1, number).astype(int)]


def open_galleries(addresses: Sequence[str | Path], model: str, pretrained: bool | str = True) -> list[Gallery]:
    """Open local stores of one model, each named after its folder.

    Args:
        addresses: of the stores.
        model: what :class:`~mmdml.apis.ImageEmbeddingInferencer` takes.
        pretrained: likewise.
    """
    from mmdml.apis import ImageEmbeddingInferencer
    from mmdml.index import LocalStore

    embed = ImageEmbeddingInferencer(model, pretrained, progress=False, workers=1)
    galleries: list[Gallery] = []
    try:
        for address in addresses:
            folder = Path(address).absolute()
            name = unused_name(folder.name, [each.name for each in galleries])
            galleries.append(Gallery(name, LocalStore.open(folder), embed, str(folder), str(model)))
    except BaseException:
        for each in galleries:
            each.close()
        raise
    return galleries


def unused_name(name: str, taken: Sequence[str]) -> str:
    """Return a name whose form in addresses no other gallery has."""
    numbered, number = name, 1
    while _slug(numbered) in taken:
        number += 1
        numbered = f'{name} {number}'
    return numbered


def _slug(name: str) -> str:
    return re.sub(r'[^A-Za-z0-9_-]+', '-', name).strip('-') or 'store'


def _survey(store: VectorStore, count: int) -> Survey:
    ids, label_of = [], []
    numbers: dict[str, int] = {}
    index: dict[str, int] = {}
    for row in store.rows():
        ids.append(row.id)
        label_of.append(index.setdefault(row.item.label, len(index)))
    shown = {label: printable(label) for label in index}
    # In the order of names: a number counts as one, so that class 9 comes before class 10.
    order = sorted({text for text in shown.values() if text}, key=_natural)
    labels: dict[str, list[str]] = {text: [] for text in order}
    for label, text in shown.items():
        if text:
            labels[text].append(label)
    place = {text: number for number, text in enumerate(order)}
    to_shown = np.array([place.get(shown[label], -1) for label in index], np.int64)
    shown_of = to_shown[label_of] if len(label_of) else np.empty(0, np.int64)
    counts = np.bincount(shown_of[shown_of >= 0], minlength=len(order))
    numbers = dict(zip(order, counts.tolist(), strict=True))
    return Survey(count, np.array(ids, np.int64), labels, numbers, shown_of)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), '') if part.isascii() and part.isdigit() else (-1, part) for part in re.split(r'(\d+)', name)]
