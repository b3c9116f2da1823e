"""``mmdml index``: a folder of pictures into a store that can be searched."""

import json
import shlex
import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mmdml.cli.options import debug_option, store_model_option

if TYPE_CHECKING:
    from mmdml.apis.gallery_update import Describe, GalleryUpdate
    from mmdml.index import FaissStore

_EXAMPLE = """\b
Example:
  mmdml index photos --store photos.store
  mmdml search query.jpg --store photos.store
"""
# Most pictures that are named on the terminal.
_SHOWN = 5


@click.command(epilog=_EXAMPLE)
@click.argument('folder')
@click.option('--store', 'address', required=True, help='Folder of the store, made if need be.')
@store_model_option
@click.option(
    '--label-from',
    default='folder',
    show_default=True,
    help='Labels: folder (the first folder below FOLDER), none, or the path of a list or table with path and label; '
    'further columns can be searched by.',
)
@click.option('--remove', is_flag=True, help='Remove pictures that were in FOLDER and are not there any more.')
@click.option('--compact', is_flag=True, help='Free the space of removed and changed pictures.')
@click.option(
    '--structure',
    type=click.Choice(['auto', 'flat', 'hnsw', 'ivfpq', 'int8', 'binary']),
    default='auto',
    show_default=True,
    help='How searches find rows; flat compares all of them. Default: by the number of rows.',
)
@click.option('--batch-size', default=32, show_default=True, help='Pictures at a time.')
@click.option('--workers', type=int, help='Threads that read pictures. Default: one for each core.')
@click.option('--device', help='Where to compute. Default: the GPU where there is one.')
@click.option('--json', 'as_json', is_flag=True, help='Print the outcome as JSON.')
@debug_option
def index(**options: Any) -> None:
    """Bring the pictures in FOLDER and below it into a store.

    Pictures that are new or changed are embedded, all others are not. A command that was stopped goes on where it
    ended.
    """
    from mmdml.cli.errors import run_command

    run_command(lambda: _index(options))


def _index(options: dict[str, Any]) -> None:
    from mmdml.apis.gallery_update import update_gallery
    from mmdml.apis.image_inputs import scan_folder
    from mmdml.cli.misplaced_models import refuse_models_as_pictures, refuse_models_as_stores
    from mmdml.cli.stores import open_to_write
    from mmdml.index.faiss_store import FEWEST, FaissStore
    from mmdml.utils.image_files import others_note

    start, address = time.monotonic(), options['address']
    refuse_models_as_pictures([options['folder']])
    refuse_models_as_stores([address])
    describe = _describe(options['label_from'], options['folder'])
    scan_folder(options['folder'])  # before a store is made, which would be bound to its model
    embed, store = open_to_write(options)
    with store:
        update = update_gallery(store, embed, options['folder'], describe, options['remove'])
        freed = store.compact() if options['compact'] else 0
        rows = store.count()
        _refresh(store, options['structure'], rows)
        structure = store.structure
    if options['as_json']:
        facts = dict(asdict(update), freed=freed, rows=rows, structure=structure and asdict(structure))
        click.echo(json.dumps(dict(facts, store=address, seconds=round(time.monotonic() - start, 2))))
        return
    for note in others_note(options['folder'], update.left_out):
        click.echo(f'warning: {note}', err=True)
    _warn_of_labels(update)
    click.echo(_summary(update, freed, rows, address))
    if options['structure'] not in ('auto', 'flat') and isinstance(store, FaissStore) and structure is None:
        click.echo(
            f'--structure {options["structure"]}: made of {FEWEST} pictures or more; searches compare all of '
            f'these {rows}, and the next mmdml index with the option makes it once there are enough',
            err=True,
        )
    if structure is not None:
        click.echo(
            f'searches use {structure.kind}, made in {structure.seconds:.0f} s: recall@10 {structure.recall:.3f} '
            'against the exact search, on rows of the store'
        )
    if rows and rows == update.added:
        store = shlex.quote(address)
        click.echo(f'Next: mmdml search PICTURE --store {store}, or a page: mmdml serve {store}')


def _refresh(store: 'FaissStore', structure: str, rows: int) -> None:
    """Make the search structure anew if it is due."""
    from mmdml.utils.progress import ProgressLine

    with ExitStack() as shown:
        line = None

        def progress(done: int) -> None:
            nonlocal line
            line = line or shown.enter_context(ProgressLine('rows in the search structure', rows))
            line.set(done)

        store.refresh(structure, progress)


def _describe(source: str, folder: str) -> 'Describe':
    from mmdml.apis.gallery_update import class_folder, listed, unlabeled

    return dict(folder=class_folder, none=unlabeled).get(source) or listed(source, folder)


def _warn_of_labels(update: 'GalleryUpdate') -> None:
    from mmdml.utils.names import printable

    if update.absent:
        first = printable(update.absent[0])
        click.echo(f'labels: {len(update.absent)} rows name no picture of the folder, the first {first}', err=True)
    if update.unlisted:
        click.echo(f'labels: {update.unlisted} pictures have no row, and so no label', err=True)


def _summary(update: 'GalleryUpdate', freed: int, rows: int, address: str) -> str:
    from mmdml.utils.names import printable

    done = [f'{getattr(update, name)} {name}' for name in ('added', 'changed', 'unchanged', 'relabeled', 'removed')]
    done = [each for each in done if not each.startswith('0 ')]
    for each in update.unreadable[:_SHOWN]:
        click.echo(f'unreadable: {printable(each.name)}: {each.reason}', err=True)
    if len(update.unreadable) > _SHOWN:
        click.echo(f'unreadable: {len(update.unreadable) - _SHOWN} more, see --json', err=True)
    if update.unreadable:
        done.append(f'{len(update.unreadable)} unreadable')
    freed_text = f'; the space of {freed} rows was freed' if freed else ''
    return f'{printable(address)} holds {rows} pictures: {", ".join(done) or "nothing to do"}{freed_text}'
