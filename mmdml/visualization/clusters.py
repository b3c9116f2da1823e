"""Sheets of clusters: random pictures of each, and how large and mixed it is."""

import numpy as np

from mmdml.utils.seeding import Stream, derive_seed, numpy_generator
from mmdml.visualization.retrieved import Pictures
from mmdml.visualization.tiles import sheet, tile


def k_means_clusters(embeddings: np.ndarray, number: int, seed: int = 0) -> np.ndarray:
    """``(N,)`` k-means clusters of embeddings ``(N, D)``."""
    import torch

    from mmdml.functional.kmeans import kmeans

    seed = derive_seed(Stream.PICTURES, seed) % 2**30
    return kmeans(torch.as_tensor(embeddings), number, seed)[0].numpy()


def cluster_sheet(
    clusters: np.ndarray,
    names: np.ndarray,
    pictures: Pictures,
    seed: int = 0,
    title: str = 'Clusters',
    across: int = 10,
) -> np.ndarray:
    """Draw a row of pictures of each cluster, of as many classes as there are.

    Args:
        clusters: ``(N,)`` cluster of each row, -1 for none.
        names: ``(N,)`` class names.
        pictures: of the rows.
        seed: of the choice.
        title: above the sheet.
        across: pictures of a cluster.
    """
    random, rows, notes = numpy_generator(Stream.PICTURES, seed), [], []
    for cluster in np.unique(clusters[clusters >= 0]).tolist():
        members = random.permutation(np.flatnonzero(clusters == cluster))
        _, first = np.unique(names[members], return_index=True)
        others = np.setdiff1d(np.arange(len(members)), first)
        chosen = members[np.concatenate([random.permutation(first), others])][:across]
        rows.append([tile(pictures(row), [names[row]]) for row in chosen.tolist()])
        share = len(members) / max(1, int((clusters >= 0).sum()))
        notes.append(f'cluster {cluster}: {len(members):,} pictures ({share:.0%}) of {len(first):,} classes')
    return sheet(rows, title, notes)
