"""The contract of every store of embeddings."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from mmdml.utils.names import printable
from mmdml.utils.numbers import check_counts

if TYPE_CHECKING:
    from mmdml.index.structure_file import StructureFacts

#: Column, or name of a metadata value -> value or values of which a row must have one; all columns must fit.
Where = Mapping[str, str | int | Sequence[str] | Sequence[int]]

#: Columns that every row has.
COLUMNS = ('path', 'label', 'size', 'content_hash')


@dataclass(frozen=True)
class Item:
    """What a store keeps beside an embedding.

    Attributes:
        path: of the picture, as the caller names it; a store holds each path once.
        label: class name; empty for none.
        size: of the file in bytes.
        content_hash: of the file's bytes, by which a changed picture shows; empty if nobody took it.
        metadata: further texts by name, such as ``{'camera': 'c1'}``, by which rows can be chosen.
    """

    path: str
    label: str = ''
    size: int = 0
    content_hash: str = ''
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Row:
    """One row of a store: its number, which no other row ever gets, and its item."""

    id: int
    item: Item


@dataclass(frozen=True)
class Neighbors:
    """The nearest rows of each query, best first; of equal scores the lower id comes first.

    Attributes:
        scores: ``(Q, k)`` float32 cosine similarities in -1..1 but for rounding; ``-inf`` where a query has fewer than
            k neighbors.
        ids: ``(Q, k)`` int64 row ids; -1 there.
    """

    scores: np.ndarray
    ids: np.ndarray


class Wanted(NamedTuple):
    """Facts that a store must have where they are given, and that a new one gets, see :meth:`VectorStore.open`."""

    dimensions: int | None
    model_hash: str | None
    model: str

    def for_new_store(self) -> dict[str, Any]:
        """Return the facts of a store that is to be made.

        Raises:
            ValueError: one is not given, or ``dimensions`` is no whole number above 0.
        """
        if not self.dimensions or not self.model_hash:
            raise ValueError('a new store needs dimensions and model_hash')
        check_counts(dimensions=self.dimensions)
        # Of Python: what numpy calls a number, SQLite keeps as bytes.
        return dict(self._asdict(), dimensions=int(self.dimensions))

    def check(self, where: Path | str, facts: Mapping[str, Any]) -> None:
        """Check that the facts of the store at ``where`` are those that are wanted.

        Raises:
            ValueError: otherwise.
        """
        if self.model_hash is not None and facts['model_hash'] != self.model_hash:
            raise ValueError(
                f'{printable(where)} holds vectors of another model or pre-processing '
                f'({facts["model_hash"][:12]}, not {self.model_hash[:12]}); use that model, or make a store anew'
            )
        if self.dimensions is not None and facts['dimensions'] != self.dimensions:
            raise ValueError(f'{printable(where)} holds {facts["dimensions"]} dimensions, not {self.dimensions}')


Store = TypeVar('Store', bound='VectorStore')


class VectorStore(ABC):
    """Unit embeddings of one model, each with its :class:`Item`, that can be searched.

    What :meth:`add` and :meth:`delete` have returned from is there after a kill of the process at any later moment.
    Use a store as a context, or call :meth:`close`.

    Attributes:
        dimensions: D, length of the embeddings.
        model_hash: of the model and pre-processing that made them.
        model: name of the model, as :class:`~mmdml.apis.ImageEmbeddingInferencer` takes it; empty if it was not said.
    """

    dimensions: int
    model_hash: str
    model: str

    @classmethod
    def open(
        cls: type[Store],
        address: str | Path,
        dimensions: int | None = None,
        model_hash: str | None = None,
        write: bool = False,
        model: str = '',
    ) -> Store:
        """Open a store.

        Args:
            address: where it is.
            dimensions: length of the embeddings; needed to make a new store. An existing one must have it.
            model_hash: as :attr:`~mmdml.apis.ImageEmbeddingInferencer.model_hash` has it; needed to make a new store.
                An existing one must have it.
            write: make the store if there is none, and allow changes. One process at a time may write; any number may
                read beside it.
            model: name of the model, kept in a new store.

        Raises:
            FileNotFoundError: there is no store, and ``write`` is False.
            ValueError: the store holds another model's embeddings, or is damaged; or a new store lacks an argument.
            RuntimeError: another process writes.
        """
        return cls._open(address, write, Wanted(dimensions, model_hash, model))

    @classmethod
    @abstractmethod
    def _open(cls: type[Store], address: str | Path, write: bool, wanted: Wanted) -> Store:
        """Open a store, see :meth:`open`."""

    @abstractmethod
    def add(self, vectors: np.ndarray, items: Sequence[Item]) -> np.ndarray:
        """Add rows, in one step that happens as a whole or not at all.

        A row of the same path is replaced.

        Args:
            vectors: ``(N, D)`` rows of length 1.
            items: ``N`` items with different paths.

        Returns:
            ``(N,)`` int64 ids of the new rows.

        Raises:
            ValueError: rows of another width, not finite or not of length 1; as many items as rows are needed, each
                path once, and of texts and a number as :class:`Item` has them.
            PermissionError: the store was opened to read.
            OSError: the disk is full; the store is as before.
        """

    @abstractmethod
    def delete(self, ids: Sequence[int]) -> int:
        """Delete rows, and return how many of the ids, whole numbers, were there."""

    @abstractmethod
    def count(self, where: Where | None = None) -> int:
        """Return the number of rows, of those only that fit ``where``."""

    @abstractmethod
    def search(self, vectors: np.ndarray, k: int, where: Where | None = None) -> Neighbors:
        """Return the k nearest rows of each query by cosine similarity, of those only that fit ``where``.

        Args:
            vectors: ``(Q, D)`` rows of length 1.
            k: neighbors of each query, at least 1.
            where: e.g. ``dict(label='beech')``, ``dict(label=['beech', 'oak'])`` or ``dict(camera='c1')``.

        Raises:
            ValueError: queries as :meth:`add` refuses them, ``k`` below 1, or a column that no row can have so.
        """

    @abstractmethod
    def get(self, ids: Sequence[int]) -> list[Row | None]:
        """Return the rows of these ids in this order, None where a row was deleted or never was."""

    @abstractmethod
    def vectors(self, ids: Sequence[int]) -> np.ndarray:
        """Return the embeddings of rows that are there, ``(N, D)``.

        Raises:
            ValueError: a row is not there.
        """

    @abstractmethod
    def rows(self, where: Where | None = None) -> Iterator[Row]:
        """Yield all rows that fit ``where``, by id."""

    def ids(self, where: Where | None = None) -> np.ndarray:
        """Return the ids of all rows that fit ``where``, ``(N,)`` int64 in increasing order."""
        return np.fromiter((row.id for row in self.rows(where)), np.int64)

    @abstractmethod
    def values(self, column: str) -> dict[str, int]:
        """Return how many rows have which value of ``label`` or of a name of their metadata, by value.

        Raises:
            ValueError: no row has such a column, or it is another of :data:`COLUMNS`.
        """

    def compact(self) -> int:
        """Free the space of rows that are gone, and return their number; 0 where the store does so by itself."""
        return 0

    def refresh(self, structure: str = 'auto', progress: Callable[[int], None] = lambda done: None) -> bool:
        """Bring the search structure up to the rows, if the store has any, and return whether it was made anew.

        Args:
            structure: ``'flat'`` for exact searches, ``'auto'`` to choose by the number of rows, or another that the
                store has.
            progress: takes the number of rows that the structure has so far.

        Raises:
            ValueError: the store has no such structure.
            PermissionError: the store was opened to read.
        """
        if structure not in ('auto', 'flat'):
            raise ValueError(f'structure={structure!r} is not for this store, whose searches are exact')
        return False

    @property
    def structure(self) -> 'StructureFacts | None':
        """Facts of the search structure, None where searches are exact."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Release files and locks; a closed store may be closed again."""

    def __enter__(self) -> 'VectorStore':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
