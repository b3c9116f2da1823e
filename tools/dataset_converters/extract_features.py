r"""Embed the images of lists by a frozen backbone, once, to train on the features instead of the images.

    python tools/dataset_converters/extract_features.py configs/_base_/models/mobilenet-v2.py data/grocery \
        features/mobilenet-v2/grocery --size 160

writes ``train.npz`` and ``test.npz`` for the lists ``train.txt`` and ``test.txt`` of the folder: unit rows of the
pooled features, labels, paths and the hash of the model, as :class:`~mmdml.datasets.FeatureFile` reads them. A list
that has its file is skipped.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import mmdml  # noqa: F401  (first: it makes torchvision importable beside a CPU-only torch)
from mmdml.apis import ImageEmbeddingInferencer
from mmdml.apis.frozen_features import feature_pipeline, frozen_model
from mmdml.cli.errors import run_command
from mmdml.datasets import ImageList
from mmdml.functional.embedding_files import write_embeddings
from mmdml.structures import RowFacts


def extract(embed: ImageEmbeddingInferencer, folder: str, name: str, out: Path) -> int:
    """Write the features of one list, and return their number.

    Raises:
        ValueError: an image cannot be read.
    """
    dataset = ImageList(ann_file=name, data_root=folder)
    infos = [dataset.get_data_info(row) for row in range(len(dataset))]
    found = embed([info['img_path'] for info in infos])
    if found.unreadable:
        raise ValueError(f'{found.unreadable[0].name} cannot be read: {found.unreadable[0].reason}')
    facts = RowFacts.of(
        labels=dataset.labels,
        roles=[info['role'] for info in infos],
        paths=[info['img_path'] for info in infos],
        class_names=dataset.metainfo['classes'],
    )
    write_embeddings(str(out), found.embeddings, facts, embed.model_hash)
    return len(facts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Embed what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config with the model, e.g. of configs/_base_/models')
    parser.add_argument('folder', help='folder of the lists, and of the images that they name')
    parser.add_argument('out', type=Path, help='folder of the features, made if need be')
    parser.add_argument('--lists', nargs='+', default=['train.txt', 'test.txt'], help='default: %(default)s')
    parser.add_argument('--size', type=int, required=True, help='pixels of both sides that images are resized to')
    parser.add_argument('--batch-size', type=int, default=64, help='images at a time; default: %(default)s')
    parser.add_argument('--workers', type=int, help='threads that read images; default: one a core')
    args = parser.parse_args(arguments)
    missing = [name for name in args.lists if not (args.out / name).with_suffix('.npz').exists()]
    for name in set(args.lists) - set(missing):
        print(f'skipped: {(args.out / name).with_suffix(".npz")} is there')
    if not missing:
        return
    embed = ImageEmbeddingInferencer(
        frozen_model(args.config), False, feature_pipeline(args.size), batch_size=args.batch_size, workers=args.workers
    )
    args.out.mkdir(parents=True, exist_ok=True)
    for name in missing:
        target = (args.out / name).with_suffix('.npz')
        number = extract(embed, args.folder, name, target)
        print(f'written: {target}, {number:,} rows of {embed.dimensions} features', flush=True)


if __name__ == '__main__':
    run_command(main)
