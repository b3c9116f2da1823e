r"""Embed the images of lists by a frozen backbone, once, to train on the features instead of the images.

    python tools/dataset_converters/extract_features.py configs/_base_/models/mobilenet-v2.py data/grocery \
        features/mobilenet-v2/grocery --size 160

writes ``train.npz`` and ``test.npz`` for the lists ``train.txt`` and ``test.txt`` of the folder: unit rows of the
pooled features, labels, paths and the hash of the model, as :class:`~mmdml.datasets.FeatureFile` reads them. A list
that has its file is skipped, if that is of the same model, size and images by name; otherwise it is an error.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import mmdml  # noqa: F401  (first: it makes torchvision importable beside a CPU-only torch)
from mmdml.apis import ImageEmbeddingInferencer
from mmdml.apis.frozen_features import feature_pipeline, frozen_model
from mmdml.cli.config_options import ConfigOptions
from mmdml.cli.errors import run_command
from mmdml.datasets import ImageList
from mmdml.functional.embedding_files import own_labels, read_embeddings, write_embeddings
from mmdml.structures import RowFacts


def facts_of(folder: str, name: str) -> RowFacts:
    """Return what a list says of its images."""
    dataset = ImageList(ann_file=name, data_root=folder)
    infos = [dataset.get_data_info(row) for row in range(len(dataset))]
    return RowFacts.of(
        labels=dataset.labels,
        roles=[info['role'] for info in infos],
        paths=[info['img_path'] for info in infos],
        class_names=dataset.metainfo['classes'],
    )


def target_files(lists: Sequence[str], out: Path) -> dict[Path, str]:
    """Return the lists by the files of their features, which are called like them and lie in ``out``.

    Raises:
        ValueError: two lists would have one file.
    """
    targets: dict[Path, str] = {}
    for name in lists:
        other = targets.setdefault(out / f'{Path(name).stem}.npz', name)
        if other != name:
            raise ValueError(f'the features of {other} and of {name} would be one file; name two folders for them')
    return targets


def require_same(out: Path, facts: RowFacts, model_hash: str) -> None:
    """Check that a file holds the features of a list.

    Raises:
        ValueError: it has those of another model or size, or of other images or labels.
    """
    found = read_embeddings(str(out))
    names, labels = ([Path(path).name for path in each.paths] for each in (found.facts, facts)), own_labels(facts)
    other = ''
    if found.model_hash != model_hash:
        other = 'another model or --size'
    elif len({*map(tuple, names)}) > 1 or found.facts.labels.tolist() != labels.tolist():
        other = 'other images or labels'
    if other:
        raise ValueError(f'{out} is of {other}: name another folder, or remove it')


def extract(embed: ImageEmbeddingInferencer, facts: RowFacts, out: Path) -> None:
    """Write the features of images.

    Raises:
        ValueError: an image cannot be read.
    """
    found = embed(list(facts.paths))
    if found.unreadable:
        raise ValueError(f'{found.unreadable[0].name} cannot be read: {found.unreadable[0].reason}')
    write_embeddings(str(out), found.embeddings, facts, embed.model_hash)


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
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, help='KEY=VALUE of the config')
    args = parser.parse_args(arguments)
    if args.size < 1:
        parser.error(f'--size must be at least 1, got {args.size}')
    targets = target_files(args.lists, args.out)
    embed = ImageEmbeddingInferencer(
        frozen_model(args.config, args.cfg_options),
        False,
        feature_pipeline(args.size),
        batch_size=args.batch_size,
        workers=args.workers,
    )
    lists = {target: facts_of(args.folder, name) for target, name in targets.items()}
    there = [target for target in lists if target.exists()]
    for target in there:
        require_same(target, lists[target], embed.model_hash)
        print(f'skipped: {target} is there')
    args.out.mkdir(parents=True, exist_ok=True)
    for target, facts in lists.items():
        if target not in there:
            extract(embed, facts, target)
            print(f'written: {target}, {len(facts):,} rows of {embed.dimensions} features', flush=True)


if __name__ == '__main__':
    run_command(main)
