"""``mmdml duplicates``: pictures that are there twice."""

import json
import os
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from mmdml.cli.options import debug_option, store_model_option

if TYPE_CHECKING:
    from mmdml.index import Row, VectorStore
    from mmdml.index.duplicates import Pair

_EXAMPLE = """\b
Example:
  mmdml duplicates photos.store
  mmdml duplicates train test --near 0.97
"""


@click.command(epilog=_EXAMPLE)
@click.argument('places', metavar='STORE [OTHER]', nargs=-1, required=True)
@click.option(
    '--near', default=0.95, show_default=True, help='Least cosine similarity of a pair; 1 for the same bytes alone.'
)
@store_model_option
@click.option('--device', help='Where to compute. Default: the GPU where there is one.')
@click.option('--json', 'as_json', is_flag=True, help='Print the pairs as JSON.')
@debug_option
def duplicates(**options: Any) -> None:
    """List pictures of STORE that are alike, or those that STORE shares with OTHER.

    STORE and OTHER are stores, or folders of pictures, which are embedded for the occasion.
    """
    if len(options['places']) > 2:
        raise click.UsageError('one or two stores or folders can be compared.')
    from mmdml.cli.errors import run_command

    run_command(lambda: _duplicates(options))


def _duplicates(options: dict[str, Any]) -> None:
    from mmdml.cli.misplaced_models import refuse_models_as_pictures
    from mmdml.index.duplicates import groups, shared_pictures
    from mmdml.utils.progress import ProgressLine

    refuse_models_as_pictures(options['places'])
    with ExitStack() as opened:
        stores = _open(options, opened)
        total = stores[0].count()
        with ProgressLine('pictures compared', total) as line:
            pairs = shared_pictures(stores[0], stores[-1], options['near'], line.set)
            line.set(total)
    if options['as_json']:
        click.echo(json.dumps([_facts(pair) for pair in pairs]))
    elif len(stores) == 1:
        _show_groups(groups(pairs))
    else:
        _show_pairs(pairs)


def _open(options: dict[str, Any], opened: ExitStack) -> 'list[VectorStore]':
    """Open the stores, and make those of folders."""
    from mmdml.apis.gallery_update import update_gallery
    from mmdml.apis.model_index import DEFAULT
    from mmdml.cli.stores import inferencer
    from mmdml.index import LocalStore, open_store
    from mmdml.index.store_folder import CATALOG
    from mmdml.utils.image_files import others_note

    places = options['places']
    if len({*map(os.path.realpath, places)}) < len(places):
        raise ValueError(
            f'{_shown(places[0])} and {_shown(places[1])} are one place: name it once for what it has twice'
        )
    folders = [place for place in places if os.path.isdir(place) and not os.path.exists(os.path.join(place, CATALOG))]
    stores = {place: opened.enter_context(open_store(place)) for place in places if place not in folders}
    named = [store.model for store in stores.values() if store.model]
    embed = inferencer(options['model'] or (named or [DEFAULT])[0], options) if folders else None
    for folder in folders:
        place = opened.enter_context(tempfile.TemporaryDirectory(prefix='mmdml-'))
        store = opened.enter_context(LocalStore.open(place, embed.dimensions, embed.model_hash, write=True))
        update = update_gallery(store, embed, folder)
        for note in others_note(folder, update.left_out):
            click.echo(f'warning: {note}', err=True)
        for each in update.unreadable:
            click.echo(f'unreadable: {_shown(each.name)}: {each.reason}', err=True)
        stores[folder] = store
    return [stores[place] for place in places]


def _facts(pair: 'Pair') -> dict[str, Any]:
    facts = dict(score=pair.score, same=pair.same)
    for name, row in (('first', pair.first), ('second', pair.second)):
        facts[name] = dict(path=row.item.path, label=row.item.label, id=row.id)
    return facts


def _show_groups(groups: 'list[list[Row]]') -> None:
    for rows in groups:
        labels = {row.item.label for row in rows}
        click.echo(f'{len(rows)} alike' + (f', with {len(labels)} labels:' if len(labels) > 1 else ':'))
        for row in rows:
            click.echo(f'  {_shown(row.item.path)}' + (f'  {_shown(row.item.label)}' if row.item.label else ''))
    extra = sum(len(rows) - 1 for rows in groups)
    click.echo(f'groups: {len(groups)}; pictures more than one of each: {extra}')


def _show_pairs(pairs: 'list[Pair]') -> None:
    for pair in pairs:
        kind = ' same' if pair.same else f'{pair.score:5.3f}'
        click.echo(f'{kind}  {_shown(pair.first.item.path)}  {_shown(pair.second.item.path)}')
    shared = len({pair.first.id for pair in pairs})
    click.echo(f'{shared} pictures of the first are in the second as well')


def _shown(name: str) -> str:
    from mmdml.utils.names import printable

    return printable(name)
