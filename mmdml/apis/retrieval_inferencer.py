"""From one picture to its nearest neighbors in a store, and to a class."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmdml.apis.embedding_inferencer import EmbeddedImages, ImageEmbeddingInferencer, UnreadableImage
from mmdml.apis.gallery_update import require_same_model
from mmdml.apis.image_inputs import ImageInputs
from mmdml.index import Neighbors, VectorStore, open_store
from mmdml.index.vector_store import Where


@dataclass(frozen=True)
class Match:
    """A row of the store that is near a query.

    Attributes:
        score: cosine similarity in -1..1.
        path: of the picture.
        label: class name, empty for none.
        id: of the row.
        metadata: further texts by name.
    """

    score: float
    path: str
    label: str
    id: int
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class RetrievedImages:
    """Neighbors of pictures, in the order of the inputs.

    Attributes:
        names: of the ``N`` queries.
        matches: ``N`` lists of up to k neighbors, best first.
        unreadable: queries that could not be embedded, with their reasons.
    """

    names: list[str]
    matches: list[list[Match]]
    unreadable: list[UnreadableImage]


@dataclass(frozen=True)
class ImageClass:
    """The class of a picture by its neighbors.

    Attributes:
        label: class name; None for none of the classes in the store.
        share: of the neighbors' votes that the label has, 0..1; 0 for none.
        matches: the neighbors that voted, best first.
    """

    label: str | None
    share: float
    matches: list[Match]


@dataclass(frozen=True)
class ClassifiedImages:
    """Classes of pictures, in the order of the inputs: ``names`` and ``classes``, and what was ``unreadable``."""

    names: list[str]
    classes: list[ImageClass]
    unreadable: list[UnreadableImage]


class ImageRetrievalInferencer:
    """Search a store by pictures.

    Args:
        model: an :class:`ImageEmbeddingInferencer`, or what one is made of.
        store: a store, or the address of one, as :func:`~mmdml.index.open_store` takes it; it is opened to read.
        options: more arguments of :class:`ImageEmbeddingInferencer`, such as ``pretrained`` and ``device``.

    Raises:
        ValueError: the store is another model's.
        FileNotFoundError: there is no store in the folder.
        TypeError: options beside a finished inferencer.

    Example::

        search = ImageRetrievalInferencer('mine.py', 'store', pretrained='epoch_10.pth')
        for match in search('query.jpg', k=5).matches[0]:
            print(match.score, match.path, match.label)
    """

    def __init__(self, model: Any, store: VectorStore | str | Path, **options: Any) -> None:
        finished = isinstance(model, ImageEmbeddingInferencer)
        if finished and options:
            raise TypeError(f'an inferencer has its options already, got {", ".join(sorted(options))}')
        self.embed = model if finished else ImageEmbeddingInferencer(model, **options)
        self._opened = not isinstance(store, VectorStore)
        self.store = open_store(store) if self._opened else store
        try:
            require_same_model(self.store, self.embed)
        except ValueError:
            self.close()
            raise

    def __call__(self, inputs: ImageInputs, k: int = 10, where: Where | None = None) -> RetrievedImages:
        """Return the nearest rows of each picture.

        Args:
            inputs: a path, a folder, an array, a PIL image, or an iterable of these.
            k: neighbors of each picture, at least 1.
            where: limits the search, e.g. ``dict(label=['beech', 'oak'])``; see :class:`~mmdml.index.VectorStore`.

        Raises:
            ValueError: ``k`` below 1, or a column that there is not.
            TypeError: something that is no picture among the inputs.
        """
        found, matches = self._search(inputs, k, where)
        return RetrievedImages(found.names, matches, found.unreadable)

    def classify(
        self, inputs: ImageInputs, threshold: float, k: int = 10, where: Where | None = None
    ) -> ClassifiedImages:
        """Return the class of each picture by the votes of its neighbors.

        The k nearest rows vote for their labels with their scores. Rows with a score below ``threshold`` and rows
        without a label have no vote; where none is left, the picture is of none of the classes. Of equal votes the
        label of the nearest row wins.

        Args:
            inputs: as in a call.
            threshold: lowest score of a vote, above 0 and at most 1. Which is right depends on the model: look at the
                scores of pictures that should match, and of some that should not.
            k: neighbors of each picture, at least 1.
            where: as in a call.

        Raises:
            ValueError: as in a call, or a threshold out of range.
        """
        if not 0 < threshold <= 1:
            raise ValueError(f'threshold={threshold} must be above 0 and at most 1; it is a cosine similarity')
        found, matches = self._search(inputs, k, where)
        return ClassifiedImages(found.names, [_vote(each, threshold) for each in matches], found.unreadable)

    def similar(self, id: int, k: int = 10, where: Where | None = None) -> list[Match]:
        """Return the rows nearest to a row of the store, without that row.

        Raises:
            ValueError: there is no such row; otherwise as in a call.
        """
        if k < 1:
            raise ValueError(f'k={k} must be 1 or more')
        found = self._matches(self.store.search(self.store.vectors([id]), k + 1, where))[0]
        return [match for match in found if match.id != id][:k]

    def close(self) -> None:
        """Close a store that was opened here."""
        if self._opened:
            self.store.close()

    def __enter__(self) -> 'ImageRetrievalInferencer':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _search(self, inputs: ImageInputs, k: int, where: Where | None) -> tuple[EmbeddedImages, list[list[Match]]]:
        # Mistakes in k and where end here, before pictures are embedded.
        self.store.search(np.empty((0, self.store.dimensions), np.float32), k, where)
        found = self.embed(inputs)
        return found, self._matches(self.store.search(found.embeddings, k, where))

    def _matches(self, neighbors: Neighbors) -> list[list[Match]]:
        ids = np.unique(neighbors.ids[neighbors.ids >= 0]).tolist()
        # A row that was deleted since the search is left out.
        rows = {row.id: row.item for row in self.store.get(ids) if row is not None}
        return [
            [
                Match(score, rows[id].path, rows[id].label, id, rows[id].metadata)
                for score, id in zip(scores.tolist(), near.tolist(), strict=True)
                if id in rows
            ]
            # Rounding takes the product of a unit vector with itself beyond 1.
            for scores, near in zip(neighbors.scores.clip(-1, 1), neighbors.ids, strict=True)
        ]


def _vote(matches: list[Match], threshold: float) -> ImageClass:
    voters = [match for match in matches if match.label and match.score >= threshold]
    if not voters:
        return ImageClass(None, 0.0, [])
    votes: dict[str, float] = {}
    for match in voters:
        votes[match.label] = votes.get(match.label, 0.0) + match.score
    # In the order of first appearance: of equal votes the first, which is the nearest, wins.
    label = max(votes, key=votes.__getitem__)
    return ImageClass(label, votes[label] / sum(votes.values()), voters)
