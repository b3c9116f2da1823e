"""What the commands ``prepare_*.py`` have in common; each of them is a table of facts."""

import argparse
import os.path as osp
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mmdml.datasets.preparation.archives import (
    ArchiveError,
    OfficialFile,
    check_checksum,
    download,
    lay_out,
    require_absent,
)


@dataclass(frozen=True)
class Recipe:
    """How a data set comes from its official files to a folder that its class loads.

    Attributes:
        dataset: registered name.
        page: official page.
        files: the official files that the data set needs.
        target: default folder to make.
        root: what to append to the folder for ``data_root``.
        note: how to get the files, where the page alone does not tell.
        reduced: options of the class that load a copy of fewer classes, where it needs any.
    """

    dataset: str
    page: str
    files: tuple[OfficialFile, ...]
    target: str
    root: str = ''
    note: str = ''
    reduced: dict[str, Any] = field(default_factory=dict)


def _is_the_file(recipe: Recipe, source: str) -> bool:
    """Whether ``source`` is the path of the only file, not of a folder."""
    return len(recipe.files) == 1 and not (osp.isdir(source) or source.endswith('/'))


def where_to_get(recipe: Recipe, files: Sequence[OfficialFile], source: str) -> str:
    """The official page, the files, and where they go."""
    names = ', '.join(file.name for file in files)
    place = f'as {osp.abspath(source)}' if _is_the_file(recipe, source) else f'into {osp.abspath(source)}'
    note = f' ({recipe.note})' if recipe.note else ''
    return (
        f'Get {names} from {recipe.page}{note}, put {"it" if len(files) == 1 else "them"} {place}, and run this again.'
    )


def locate(recipe: Recipe, source: str) -> list[tuple[OfficialFile, str]]:
    """Where each official file is, or where it goes if it is not there.

    Args:
        recipe: of the data set.
        source: a folder with files of official names, with or without their official folders; or the file itself,
            where there is only one.
    """
    if _is_the_file(recipe, source):
        return [(recipe.files[0], source)]
    if osp.isfile(source):
        names = ', '.join(file.name for file in recipe.files)
        raise ArchiveError(
            f'{recipe.dataset} comes in several files ({names}): give the folder they are in, not {source}'
        )
    found = []
    for file in recipe.files:
        flat = osp.join(source, osp.basename(file.name))
        nested = osp.join(source, file.name)
        found.append((file, nested if osp.isfile(nested) else flat))
    return found


def prepare(recipe: Recipe, source: str, target: str, checks: bool = True) -> str:
    """Fetch what is missing, check it, and lay it out.

    Args:
        recipe: of the data set.
        source: see :func:`locate`.
        target: folder to make.
        checks: insist on the official checksums and counts.

    Returns:
        What was laid out, in words.

    Raises:
        ArchiveError: says what is wrong and what to do. Nothing is at ``target`` then.
    """
    parts = locate(recipe, source)
    require_absent(target, [path for _, path in parts])
    absent = [file for file, path in parts if not osp.isfile(path)]
    by_hand = [file for file in absent if not file.address]
    if by_hand:
        where = where_to_get(recipe, by_hand, source)
        raise ArchiveError(f'{recipe.dataset} cannot be downloaded from here.\n{where}')
    for file, path in parts:
        if file in absent:
            download(file.address, path, where_to_get(recipe, absent, source), archive=file.folder is not None)
        if checks and file.checksum:
            check_checksum(path, file.checksum)
    summary = []
    lay_out(parts, target, lambda tree: summary.extend(check_tree(recipe, tree, checks)))
    return f'{recipe.dataset} in {osp.abspath(target)}: {"; ".join(summary)}'


def check_tree(recipe: Recipe, tree: str, checks: bool) -> list[str]:
    """Load every split with the data set's class; classes and images of each, in words."""
    # They take seconds to import, and are not needed to say that a file is missing.
    from mmdml.datasets.preparation.counts import SplitReport, load_split, missing_images, official_splits

    def load(**options: Any) -> list[SplitReport]:
        options['data_root'] = osp.join(tree, recipe.root) if recipe.root else tree
        splits = official_splits(recipe.dataset)
        return [load_split(name, recipe.dataset, options, *split) for name, split in splits.items()]

    reports, read_with = load(), ''
    if recipe.reduced and not checks and any(report.error for report in reports):
        reports = load(**recipe.reduced)
        read_with = ' (with {})'.format(', '.join(f'{key}={value!r}' for key, value in recipe.reduced.items()))
    for report in reports:
        if report.error:
            raise ArchiveError(f'{recipe.dataset} cannot load split {report.name} of what was unpacked: {report.error}')
        if checks and report.problem:
            raise ArchiveError(f'split {report.name} of {recipe.dataset} is not complete: {report.problem}')
    missing = missing_images(reports)
    if checks and missing:
        raise ArchiveError(
            f'{len(missing):,} listed images of {recipe.dataset} are not in the archive, e.g. '
            f'{osp.relpath(missing[0], tree)}'
        )
    return ['{} {:,} classes, {:,} images'.format(report.name, *report.found) + read_with for report in reports]


def main(recipe: Recipe, arguments: Sequence[str] | None = None) -> None:
    """Command line of a recipe."""
    names = ', '.join(file.name for file in recipe.files)
    parser = argparse.ArgumentParser(description=f'Lay {recipe.dataset} out for mmdml, from {names} ({recipe.page})')
    has = 'the file, or the folder it is in' if len(recipe.files) == 1 else 'folder of the files'
    fetched = '' if any(not file.address for file in recipe.files) else '; what is missing is downloaded to there'
    parser.add_argument('source', help=has + fetched)
    parser.add_argument('target', nargs='?', default=recipe.target, help='folder to make. Default: %(default)s')
    parser.add_argument(
        '--skip-checks',
        action='store_true',
        help='take a repacked or reduced copy, whose checksums and counts are not the official ones',
    )
    args = parser.parse_args(arguments)
    try:
        print(prepare(recipe, args.source, args.target, checks=not args.skip_checks))
    except (ArchiveError, OSError) as error:
        raise SystemExit(str(error)) from error
    root = shlex.quote(osp.join(args.target, recipe.root) if recipe.root else args.target)
    print(f'open every image: python tools/misc/verify_dataset.py {recipe.dataset} --data-root {root}')
