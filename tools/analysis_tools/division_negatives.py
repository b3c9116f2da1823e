"""How far the negatives of a batch are, drawn from everything and drawn inside clusters.

    python tools/analysis_tools/division_negatives.py seed0.npz seed1.npz seed2.npz

Files are the embeddings of the training images after several trainings; of several, each row has its difference from
everything, with a 95 % interval by t over the files. Batches are those of ClusterPKSampler after one division,
negatives those of the distance-weighted miner, distances those of unit rows. K = 1 is everything; K > 1 has clusters
of k-means, and random ones as the control.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from comparison_plots import plot_bars
from paired import paired
from torch import Tensor
from torch.nn.functional import normalize

import mmdml  # noqa: F401  (first: it makes torchvision importable beside a CPU-only torch)
from mmdml.cli.errors import run_command
from mmdml.datasets import FeatureFile
from mmdml.datasets.samplers import ClusterPKSampler
from mmdml.engine.division import Divider
from mmdml.models.miners import DistanceWeightedMiner
from mmdml.structures import PairBatch
from mmdml.utils.tables import markdown_table


def distances_of_negatives(
    rows: Tensor, dataset: FeatureFile, clusters: Tensor, num_clusters: int, seed: int, batches: int
) -> tuple[float, float, float]:
    """Mean distance of all negatives of a batch, of those that the miner draws, and of each row's nearest one.

    Args:
        rows: ``(N, D)`` unit vectors.
        dataset: of these rows.
        clusters: ``(N,)`` 0..K-1.
        num_clusters: K.
        seed: of batches and draws.
        batches: how many.
    """
    labels = torch.from_numpy(np.array(dataset.labels))
    sampler = ClusterPKSampler(dataset, 64, 4, num_batches=batches, seed=seed)
    sampler.set_assignment(Divider().settle(clusters, labels, rows, num_clusters).assignment, num_clusters)
    miner, random = DistanceWeightedMiner(), torch.Generator().manual_seed(seed)
    found, epoch = [], 0
    while len(found) < batches:
        for batch in sampler.global_order(epoch).reshape(-1, 64):
            pairs = PairBatch.from_embeddings(rows[batch], labels[batch], torch.from_numpy(batch))
            pairs.random = random
            distance, negative = pairs.distance(), pairs.negative_mask
            if not negative.any(1).all():
                continue
            drawn = miner(pairs)
            nearest = distance.masked_fill(~negative, torch.inf).amin(1)
            chosen = distance[drawn.anchor, drawn.negative]
            found.append([values.mean().item() for values in (distance[negative], chosen, nearest)])
        epoch += 1
    return tuple(np.mean(found[:batches], axis=0))


def measure(file: str, rows_of: Sequence[tuple[int, str]], seeds: int, batches: int) -> dict[str, np.ndarray]:
    """Mean distances, ``(3,)``, of one file for each number and kind of clusters, over seeds of k-means and batches."""
    dataset = FeatureFile(file)
    rows = normalize(dataset.features_at(np.arange(len(dataset))))
    labels = torch.from_numpy(np.array(dataset.labels))
    found = {}
    for number, kind in rows_of:
        means = []
        for seed in range(seeds):
            random = torch.randn(len(rows), 16, generator=torch.Generator().manual_seed(seed))
            vectors = normalize(random) if kind == 'random' else rows
            clusters = Divider().cluster(vectors, labels, number, seed)
            means.append(distances_of_negatives(rows, dataset, clusters, number, seed, batches))
        found[f'{number}, {kind}'] = np.mean(means, axis=0)
    return found


def cell(values: np.ndarray, everything: np.ndarray) -> str:
    """Write the mean over files; of several files also the difference from everything with its interval."""
    text = f'{values.mean():.3f}'
    difference = values - everything
    if len(values) < 2 or not difference.any():
        return text
    found = paired(difference)
    return f'{text} ({found.mean:+.3f} [{found.t[0]:+.3f}, {found.t[1]:+.3f}])'


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table, and draw it where a file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('files', nargs='+', help='features or embeddings of training images, with labels')
    parser.add_argument('--clusters', nargs='+', type=int, default=[4, 8], help='default: 4 8')
    parser.add_argument('--batches', type=int, default=50, help='of each row; default: %(default)s')
    parser.add_argument('--seeds', type=int, default=3, help='of k-means and batches; default: %(default)s')
    parser.add_argument('--plot', type=Path, help='file of a picture of the means')
    args = parser.parse_args(arguments)
    if args.seeds < 1:
        parser.error(f'--seeds must be at least 1, got {args.seeds}')
    rows_of = [(1, 'everything'), *((k, kind) for k in args.clusters for kind in ('k-means', 'random'))]
    files = [measure(file, rows_of, args.seeds, args.batches) for file in args.files]
    found = {name: np.array([each[name] for each in files]) for name in files[0]}
    heads = ['all negatives', 'drawn', 'nearest']
    base = found['1, everything']
    lines = [
        [name, *(cell(values[:, column], base[:, column]) for column in range(len(heads)))]
        for name, values in found.items()
    ]
    print(markdown_table(['K', *heads], lines))
    if args.plot:
        groups = [name.replace(', ', '\n') for name in found]
        means = np.array([values.mean(0) for values in found.values()])
        plot_bars(groups, dict(zip(heads, means.T, strict=True)), 'distance', args.plot)


if __name__ == '__main__':
    run_command(main)
