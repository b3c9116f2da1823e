"""Ways to search many vectors in less than one pass over them, each a few lines around faiss."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from mmdml.utils.names import printable

#: Rows of a block that is read from the file, and rows that a structure is trained on at most.
_BLOCK, _TRAINED = 1 << 13, 1 << 17
# Vectors for each center of a clustering, below which faiss warns.
_A_CELL = 39


class Structure(ABC):
    """A faiss index over vectors, which finds candidates; their exact scores decide.

    The more effort, the more of the true neighbors are among the candidates.

    Args:
        index: of faiss, trained and filled.
        effort: position in :attr:`efforts`.

    Attributes:
        efforts: what a search can spend, in increasing order: a value of the index, and candidates a neighbor.
    """

    efforts: ClassVar[tuple[tuple[int, int], ...]]

    def __init__(self, index: Any, effort: int = 0) -> None:
        self.index, self.effort = index, effort

    @classmethod
    def build(
        cls, vectors: np.ndarray, rows: np.ndarray, progress: Callable[[int], None] = lambda done: None
    ) -> 'Structure':
        """Make a structure of the rows ``rows`` of a matrix ``(M, D)``, which are read block by block.

        Args:
            vectors: the matrix.
            rows: ``(N,)`` its rows.
            progress: takes the number of rows that are in.
        """
        index = cls.empty(vectors.shape[1], len(rows))
        if not index.is_trained:
            number = max(_TRAINED, _A_CELL * getattr(index, 'nlist', 0))
            chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), number), dtype=int))
            index.train(np.ascontiguousarray(vectors[rows[chosen]]))
        for start in range(0, len(rows), _BLOCK):
            index.add(np.ascontiguousarray(vectors[rows[start : start + _BLOCK]]))
            progress(index.ntotal)
        return cls(index)

    @classmethod
    @abstractmethod
    def empty(cls, dimensions: int, count: int) -> Any:
        """Return a faiss index for so many vectors."""

    def candidates(self, queries: np.ndarray, k: int, share: float = 1.0) -> np.ndarray:
        """Return the positions of rows that may be among the k nearest of each query.

        Args:
            queries: ``(Q, D)`` unit rows.
            k: neighbors wanted.
            share: of the rows that can be used, above 0; the others are found and dropped by the caller.

        Returns:
            ``(Q, C)`` int64 positions among the rows of :meth:`build`, -1 where there is none.
        """
        value, factor = self.efforts[self.effort]
        number = min(self.index.ntotal, int(np.ceil(max(factor * k, 20) / share)))
        return self._find(queries, number, value)

    def _find(self, queries: np.ndarray, number: int, value: int) -> np.ndarray:
        return self.index.search(queries, number)[1]


class HNSW(Structure):
    """A graph of near neighbors over vectors of 8 bits a dimension: fast and accurate, slow to build.

    Malkov, Yashunin: Efficient and robust approximate nearest neighbor search using hierarchical navigable small world
    graphs (TPAMI 2020).
    """

    efforts = tuple((search, 2) for search in (32, 64, 128, 256, 512, 1024))

    @classmethod
    def empty(cls, dimensions: int, count: int) -> Any:
        import faiss

        index = faiss.IndexHNSWSQ(dimensions, faiss.ScalarQuantizer.QT_8bit, 16)
        index.hnsw.efConstruction = 80
        return index

    def _find(self, queries: np.ndarray, number: int, value: int) -> np.ndarray:
        import faiss

        options = faiss.SearchParametersHNSW(efSearch=max(value, number))
        return _search(self.index)(queries, number, params=options)[1]


class IVFPQ(Structure):
    """Cells of near vectors, each vector in a few bytes: the least memory and a short build.

    Jegou, Douze, Schmid: Product quantization for nearest neighbor search (TPAMI 2011).
    """

    efforts = tuple(
        (probes, factor) for probes, factor in ((4, 8), (8, 8), (16, 16), (32, 16), (64, 32), (128, 32), (256, 64))
    )

    @classmethod
    def empty(cls, dimensions: int, count: int) -> Any:
        import faiss

        cells = max(1, min(int(4 * np.sqrt(count)), count // _A_CELL))
        # A byte for every four dimensions, or for fewer where four do not divide them.
        parts = next(parts for parts in range(max(1, dimensions // 4), dimensions + 1) if dimensions % parts == 0)
        bits = 8 if count >= _A_CELL * 256 else 4
        index = faiss.IndexIVFPQ(faiss.IndexFlatIP(dimensions), dimensions, cells, parts, bits)
        index.metric_type = faiss.METRIC_INNER_PRODUCT
        index.cp.niter = 10
        return index

    def _find(self, queries: np.ndarray, number: int, value: int) -> np.ndarray:
        import faiss

        options = faiss.SearchParametersIVF(nprobe=min(value, self.index.nlist))
        return _search(self.index)(queries, number, params=options)[1]


class Int8(Structure):
    """One byte a dimension: a quarter of the memory, a pass over all of it."""

    efforts = tuple((0, factor) for factor in (2, 4, 8, 16))

    @classmethod
    def empty(cls, dimensions: int, count: int) -> Any:
        import faiss

        return faiss.IndexScalarQuantizer(dimensions, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)


class Binary(Structure):
    """Two bits a dimension, signs of random projections: 1/16 of the memory, a pass that counts differing bits.

    Charikar: Similarity estimation techniques from rounding algorithms (STOC 2002).
    """

    efforts = tuple((0, factor) for factor in (8, 16, 32, 64, 128, 256))

    @classmethod
    def empty(cls, dimensions: int, count: int) -> Any:
        import faiss

        return faiss.IndexLSH(dimensions, -(-2 * dimensions // 8) * 8, True, True)


#: Structures by the names that commands take. ``flat``, the exact search, needs none.
STRUCTURES: dict[str, type[Structure]] = dict(hnsw=HNSW, ivfpq=IVFPQ, int8=Int8, binary=Binary)
FLAT, AUTO = 'flat', 'auto'
# Rows up to which an exact search takes a few milliseconds, and from which on the graph becomes too large.
_EXACT_UP_TO, _CELLS_FROM = 50_000, 2_000_000


def structure_for(count: int) -> str:
    """Return the name of the structure for so many rows."""
    if count <= _EXACT_UP_TO:
        return FLAT
    return 'hnsw' if count < _CELLS_FROM else 'ivfpq'


def check_structure(name: str) -> None:
    """Check that a structure has this name.

    Raises:
        ValueError: otherwise.
    """
    if name not in (FLAT, AUTO, *STRUCTURES):
        raise ValueError(f'structure={printable(name)!r} is unknown; there are {", ".join((AUTO, FLAT, *STRUCTURES))}')


def _search(index: Any) -> Any:
    """Return faiss's own search, which takes parameters; ``faiss.contrib.torch_utils`` puts another in its place."""
    return getattr(index, 'search_numpy', index.search)
