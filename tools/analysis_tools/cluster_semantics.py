"""Whether clusters of features are semantic: how well they agree with coarse labels, fine ones, and with chance.

    python tools/analysis_tools/cluster_semantics.py features/mobilenet-v2/grocery/train.npz data/grocery/coarse.txt

COARSE has a line ``label coarse_label ...`` for each fine label. K-means runs on unit rows, as divide and conquer does.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from comparison_plots import plot_bars

import mmdml  # noqa: F401  (first: it makes torchvision importable beside a CPU-only torch)
from mmdml.cli.errors import run_command
from mmdml.evaluation.functional.partitions import adjusted_mutual_information, normalized_mutual_information
from mmdml.functional.embedding_files import read_embeddings
from mmdml.functional.kmeans import kmeans
from mmdml.utils.tables import markdown_table, read_lines


def coarse_labels(path: str, labels: np.ndarray) -> np.ndarray:
    """``(N,)`` coarse labels of fine ones.

    Raises:
        ValueError: a line lacks one of the two, or a fine label has no line.
    """
    coarse = {}
    for number, line in enumerate(read_lines(path), 1):
        words = line.split()
        if len(words) == 1:
            raise ValueError(f'{path}, line {number} must have a label and a coarse one, got {line!r}')
        if words:
            coarse[words[0]] = words[1]
    missing = sorted({str(label) for label in labels} - coarse.keys())
    if missing:
        raise ValueError(f'{path} has no line for the label {missing[0]}')
    return np.array([coarse[str(label)] for label in labels])


def agreement(rows: torch.Tensor, labels: np.ndarray, coarse: np.ndarray, clusters: int, seeds: int) -> list[float]:
    """NMI and AMI with coarse labels, NMI with fine ones, and NMI of shuffled clusters; means over seeds of k-means."""
    found = []
    for seed in range(seeds):
        assignment = kmeans(rows, clusters, seed)[0].numpy()
        shuffled = np.random.default_rng(seed).permutation(assignment)
        found.append(
            [
                normalized_mutual_information(coarse, assignment),
                adjusted_mutual_information(coarse, assignment),
                normalized_mutual_information(labels, assignment),
                normalized_mutual_information(coarse, shuffled),
            ]
        )
    return np.mean(found, axis=0).tolist()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table, and draw it where a file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('file', help='embeddings with labels')
    parser.add_argument('coarse', help='text file of fine and coarse labels')
    parser.add_argument('--clusters', nargs='+', type=int, default=[4, 8], help='default: 4 8')
    parser.add_argument('--seeds', type=int, default=5, help='of k-means; default: %(default)s')
    parser.add_argument('--plot', type=Path, help='file of a picture of the table')
    args = parser.parse_args(arguments)
    if args.seeds < 1:
        parser.error(f'--seeds must be at least 1, got {args.seeds}')
    saved = read_embeddings(args.file)
    rows = torch.nn.functional.normalize(torch.from_numpy(saved.embeddings).float())
    coarse = coarse_labels(args.coarse, saved.facts.labels)
    found = [agreement(rows, saved.facts.labels, coarse, number, args.seeds) for number in args.clusters]
    heads = ['NMI, coarse', 'AMI, coarse', 'NMI, fine', 'NMI, coarse, shuffled']
    lines = [
        [str(number), *(f'{value:.3f}' for value in values)]
        for number, values in zip(args.clusters, found, strict=True)
    ]
    print(markdown_table(['K', *heads], lines))
    if args.plot:
        columns = dict(zip(heads, zip(*found, strict=True), strict=True))
        plot_bars([f'K = {number}' for number in args.clusters], columns, 'mutual information', args.plot)


if __name__ == '__main__':
    run_command(main)
