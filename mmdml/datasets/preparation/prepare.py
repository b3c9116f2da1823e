"""Laying a dataset out: find or fetch its official files, check them, unpack them, and load the result."""

import os
import os.path as osp
import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmdml.datasets.preparation.archives import MAX_UNPACKED_BYTES, ArchiveError, unpack
from mmdml.datasets.preparation.download import check_checksum, download


@dataclass(frozen=True)
class OfficialFile:
    """A file as the authors of a dataset distribute it.

    Attributes:
        name: path in the distribution, e.g. ``'Img/img.zip'``.
        to: for an archive, the folder of the tree that its content goes to; else the path of the file in the tree.
        folder: for an archive, the folder inside it whose content is taken, ``''`` for all; None for a plain file.
        address: direct address, ``''`` if there is none.
        checksum: ``'sha256:...'`` or ``'md5:...'``, ``''`` if none is known for certain.
    """

    name: str
    to: str = ''
    folder: str | None = None
    address: str = ''
    checksum: str = ''


@dataclass(frozen=True)
class Recipe:
    """How a dataset comes from its official files to a folder that its class loads.

    Attributes:
        dataset: registered name.
        page: official page.
        files: the official files that the dataset needs.
        target: folder that the class reads by default.
        root: what to append to the folder for ``data_root``.
        note: how to get the files, where the page alone does not say.
        reduced: options of the class that load a copy of fewer classes, where it needs any.
        finish: changes the unpacked tree, given its folder, into what the class loads; None: it is that already.
    """

    dataset: str
    page: str
    files: tuple[OfficialFile, ...]
    target: str
    root: str = ''
    note: str = ''
    reduced: dict[str, Any] = field(default_factory=dict)
    finish: Callable[[str], None] | None = None


def prepare(
    recipe: Recipe, sources: Sequence[str], target: str, checks: bool = True, max_bytes: int = MAX_UNPACKED_BYTES
) -> str:
    """Fetch what is missing, check it, and lay it out.

    Args:
        recipe: of the dataset.
        sources: see :func:`locate`.
        target: folder to make.
        checks: insist on the official checksums and counts.
        max_bytes: see :func:`~mmdml.datasets.preparation.archives.unpack`.

    Returns:
        What was laid out, in words.

    Raises:
        ArchiveError: says what is wrong and what to do. Nothing is at ``target`` then.
    """
    parts = locate(recipe, sources)
    require_absent(target, [path for _, path in parts])
    absent = [(file, path) for file, path in parts if not osp.isfile(path)]
    special = [path for _, path in absent if osp.lexists(path)]
    if special:
        raise ArchiveError(f'{osp.abspath(special[0])} is no regular file')
    by_hand = [(file, path) for file, path in absent if not file.address]
    if by_hand:
        raise ArchiveError(f'{recipe.dataset} cannot be downloaded from here.\n{where_to_get(recipe, by_hand)}')
    for file, path in parts:
        if (file, path) in absent:
            download(file.address, path, where_to_get(recipe, absent), archive=file.folder is not None)
        if checks and file.checksum:
            check_checksum(path, file.checksum)
    summary = []
    lay_out(parts, target, lambda tree: summary.extend(check_tree(recipe, tree, checks)), recipe.finish, max_bytes)
    return f'{recipe.dataset} in {osp.abspath(target)}: {"; ".join(summary)}'


def locate(recipe: Recipe, sources: Sequence[str]) -> list[tuple[OfficialFile, str]]:
    """Find each official file, or the place where it goes if it is not there.

    Args:
        recipe: of the dataset.
        sources: files with official names, and folders with such files, with or without their official folders; a
            file that is missing belongs into the first folder, or beside the first file. Where there is only one
            official file, a single source may be that file under any name.

    Raises:
        ArchiveError: a source is a file of another name.
    """
    if len(recipe.files) == len(sources) == 1 and not (osp.isdir(sources[0]) or sources[0].endswith('/')):
        return [(recipe.files[0], sources[0])]
    names = {osp.basename(file.name) for file in recipe.files}
    files = {osp.basename(source): source for source in sources if osp.isfile(source) or osp.basename(source) in names}
    folders = [source for source in sources if source not in files.values()]
    unknown = sorted(set(files) - names)
    if unknown:
        raise ArchiveError(f'{files[unknown[0]]} is none of the files of {recipe.dataset}: {_names(recipe.files)}')
    found = []
    for file in recipe.files:
        name = osp.basename(file.name)
        places = [osp.join(folder, part) for folder in folders for part in (file.name, name)]
        missing = osp.join(folders[0] if folders else osp.dirname(sources[0]), name)
        found.append((file, files.get(name) or next(filter(osp.isfile, places), missing)))
    return found


def where_to_get(recipe: Recipe, missing: Sequence[tuple[OfficialFile, str]]) -> str:
    """Say what to get from where, and the place to put it.

    Args:
        recipe: of the dataset.
        missing: official files, and the path where each is looked for.
    """
    note = f' ({recipe.note})' if recipe.note else ''
    if len(recipe.files) == 1:
        place = f'it as {osp.abspath(missing[0][1])}'
    else:
        folder = osp.abspath(osp.dirname(missing[0][1]))
        place = f'{"it" if len(missing) == 1 else "them"} into {folder}'
    return f'Get {_names(file for file, _ in missing)} from {recipe.page}{note}, put {place}, and run this again.'


def _names(files: Iterable[OfficialFile]) -> str:
    return ', '.join(file.name for file in files)


def require_absent(target: str, sources: Sequence[str]) -> None:
    """Refuse to write over what is there.

    Args:
        target: folder to make.
        sources: files to make it from, which must lie elsewhere, so that no message advises to remove them.

    Raises:
        ArchiveError: ``target`` is there, or a source lies in it.
    """
    folder = Path(osp.realpath(target))
    for path in sources:
        if Path(osp.realpath(path)).is_relative_to(folder):
            raise ArchiveError(
                f'{osp.abspath(path)} is a place in the target folder {osp.abspath(target)}: choose another target '
                'folder'
            )
    if osp.lexists(target):
        raise ArchiveError(f'{osp.abspath(target)} is there already; remove it first to unpack again')


def lay_out(
    parts: Sequence[tuple[OfficialFile, str]],
    target: str,
    check: Callable[[str], None],
    finish: Callable[[str], None] | None = None,
    max_bytes: int = MAX_UNPACKED_BYTES,
) -> None:
    """Unpack files beside ``target``, check the tree, and only then move it there.

    Each call has a folder of its own, which it removes whatever happens, and touches no other.

    Args:
        parts: official files, and where each is on this machine.
        target: folder to make.
        check: is called with the folder of the whole tree and raises if something is wrong with it.
        finish: see :class:`Recipe`.
        max_bytes: see :func:`~mmdml.datasets.preparation.archives.unpack`.

    Raises:
        ArchiveError: ``target`` is there or holds one of the files, or a file cannot be unpacked.
    """
    require_absent(target, [path for _, path in parts])
    target = osp.abspath(target)
    staging = f'{target}.unpacking-{secrets.token_hex(4)}'
    try:
        os.makedirs(staging)
    except OSError as error:
        raise ArchiveError(f'cannot make {target}: {error}') from error
    try:
        for file, path in parts:
            place = osp.join(staging, file.to)
            if file.folder is None:
                os.makedirs(osp.dirname(place), exist_ok=True)
                shutil.copyfile(path, place)
            else:
                unpack(path, file.folder, place, max_bytes)
        if finish is not None:
            finish(staging)
        check(staging)
        try:
            os.rename(staging, target)
        except OSError as error:
            if not osp.lexists(target):
                raise
            raise ArchiveError(f'{target} has appeared meanwhile; another command may have made it') from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_tree(recipe: Recipe, tree: str, checks: bool) -> list[str]:
    """Load every split with the class of the dataset, and return classes and images of each, in words.

    ``checks`` insists on the official counts, and on every listed image.

    Raises:
        ArchiveError: a split cannot be loaded, or is not complete.
    """
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
