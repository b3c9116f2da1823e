"""All pictures of a file of embeddings, or of the embeddings of an evaluation."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from mmdml.structures.row_facts import RowFacts
from mmdml.utils.seeding import Stream, numpy_generator
from mmdml.visualization.charts import draw_histogram, draw_map, draw_matrix, project
from mmdml.visualization.clusters import cluster_sheet, k_means_clusters
from mmdml.visualization.neighbors import SearchedRows
from mmdml.visualization.retrieved import (
    Pictures,
    choose_queries,
    confusion_sheet,
    confusions,
    retrieval_sheet,
    worst_queries,
)
from mmdml.visualization.tiles import picture_map, read_picture, write_picture

#: Rows whose pairs make a histogram, and classes of a matrix.
_PAIRED_ROWS, _CLASSES = 3000, 12


@dataclass(frozen=True)
class Drawing:
    """What a picture is made of, and how much of it is shown.

    Attributes:
        searched: embeddings and their search.
        pictures: of the rows.
        number: rows of a sheet.
        k: neighbors.
        seed: of the choice.
        projection: of maps, see :func:`~mmdml.visualization.charts.project`.
        num_clusters: of k-means.
    """

    searched: SearchedRows
    pictures: Pictures
    number: int = 8
    k: int = 8
    seed: int = 0
    projection: str = 'pca'
    num_clusters: int = 8

    @cached_property
    def points(self) -> tuple[np.ndarray, str]:
        """``(N, 2)`` points of the maps, and what they are, in words."""
        return project(self.searched.unit.numpy(), self.projection)


def draw_embeddings(
    embeddings: np.ndarray | torch.Tensor,
    facts: RowFacts,
    out: str | Path,
    kinds: Sequence[str] = (),
    pictures: Pictures | None = None,
    **options: int | str,
) -> list[str]:
    """Write pictures of embeddings to ``<kind>.png`` in a folder.

    Args:
        embeddings: ``(N, D)``.
        facts: of the N images.
        out: folder, made if need be.
        kinds: names of :data:`KINDS`. Default: all.
        pictures: of the rows. Default: the files that ``facts.paths`` names.
        options: more of :class:`Drawing`, such as ``number`` or ``projection``.

    Returns:
        The files. A kind that has nothing to show (no wrong result) writes none.

    Raises:
        ValueError: an unknown kind; fewer than three rows for a map.
        ImportError: UMAP is not installed.
        OSError: a file cannot be written.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(f'there is no picture {unknown[0]!r}; there are {", ".join(KINDS)}')
    os.makedirs(out, exist_ok=True)
    drawing = Drawing(SearchedRows.of(embeddings, facts), pictures or pictures_of(facts), **options)
    return [write_picture(Path(out) / f'{name}.png', image) for name, image in drawn(drawing, kinds)]


def drawn(drawing: Drawing, kinds: Sequence[str] = ()) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and images, ``(H, W, 3)`` uint8 RGB."""
    for kind in kinds or KINDS:
        image = KINDS[kind](drawing)
        if image is not None:
            yield kind, image


def pictures_of(facts: RowFacts) -> Pictures:
    """Return what reads the pictures that the paths name."""
    return lambda row: None if facts.paths is None else read_picture(str(facts.paths[row]))


def _retrieval(drawing: Drawing) -> np.ndarray:
    query = choose_queries(drawing.searched, drawing.number, drawing.seed)
    title = f'Random queries and their {drawing.k} nearest pictures'
    return retrieval_sheet(drawing.searched, query, drawing.pictures, drawing.k, title)


def _worst(drawing: Drawing) -> np.ndarray | None:
    query, ranks = worst_queries(drawing.searched, drawing.number)
    if not len(query):
        return None
    notes = [f'first picture of its class at rank {rank:,}' for rank in ranks.tolist()]
    return retrieval_sheet(drawing.searched, query, drawing.pictures, drawing.k, 'The worst queries', notes)


def _confused(drawing: Drawing) -> np.ndarray | None:
    return confusion_sheet(drawing.searched, drawing.pictures, drawing.number)


def _confusions(drawing: Drawing) -> np.ndarray | None:
    searched = drawing.searched
    pairs = confusions(searched)
    classes = list(dict.fromkeys(label for pair in pairs for label in pair[:2]))[:_CLASSES]
    if not classes:
        return None
    labels, (_, rows) = searched.facts.labels, searched.first_matches
    names = {label: searched.names[np.flatnonzero(labels == label)[0]] for label in classes}
    values = np.zeros((len(classes), len(classes) + 1))
    for number, label in enumerate(classes):
        near = rows[labels[searched.query] == label]
        found = labels[near[near >= 0]]
        if len(found):
            values[number, :-1] = [(found == other).mean() for other in classes]
            values[number, -1] = 1 - values[number, :-1].sum()
    named = [names[label] for label in classes]
    return draw_matrix(
        values,
        named,
        [*named, 'all others'],
        title='Class of the nearest picture, percent of the queries',
        ylabel='class of the query',
    )


def _map(drawing: Drawing) -> np.ndarray:
    points, what = drawing.points
    title = f'{len(points):,} embeddings'
    return draw_map(points, drawing.searched.names, what, title, numpy_generator(Stream.PICTURES, drawing.seed))


def _picture_map(drawing: Drawing) -> np.ndarray:
    points, what = drawing.points
    return picture_map(points, drawing.pictures, what)


def _similarities(drawing: Drawing) -> np.ndarray:
    positive, negative = pair_similarities(drawing.searched, drawing.seed)
    values = {'of one class': positive, 'of two classes': negative}
    return draw_histogram(values, 'cosine', 'Cosines of pairs of pictures', ('#188c3c', '#cd232d'))


def _clusters(drawing: Drawing) -> np.ndarray:
    searched = drawing.searched
    clusters = k_means_clusters(searched.unit.numpy(), min(drawing.num_clusters, len(searched.unit)), drawing.seed)
    return cluster_sheet(
        clusters, searched.names, drawing.pictures, drawing.seed, 'Clusters of the embeddings (k-means)'
    )


def pair_similarities(searched: SearchedRows, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return cosines of pairs of one class and of two, of up to 3,000 random rows."""
    rows = numpy_generator(Stream.PICTURES, seed).permutation(len(searched.unit))[:_PAIRED_ROWS]
    unit, labels = searched.unit[rows].numpy(), searched.facts.labels[rows]
    first, second = np.triu_indices(len(rows), 1)
    similarity, same = (unit @ unit.T)[first, second], labels[first] == labels[second]
    return similarity[same], similarity[~same]


#: Pictures by name.
KINDS: dict[str, Callable[[Drawing], np.ndarray | None]] = dict(
    retrieval=_retrieval,
    worst_queries=_worst,
    confused_pairs=_confused,
    confusions=_confusions,
    map=_map,
    picture_map=_picture_map,
    similarities=_similarities,
    clusters=_clusters,
)
