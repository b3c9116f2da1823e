"""``mmdml search``: the pictures of a store that are nearest to a picture."""

import json
import os
from typing import TYPE_CHECKING, Any

import click

from mmdml.cli.options import debug_option, store_model_option

if TYPE_CHECKING:
    from mmdml.apis.retrieval_inferencer import Match, RetrievedImages

_EXAMPLE = """\b
Example:
  mmdml search query.jpg --store photos.store -k 5
  mmdml search query.jpg --store photos.store --where label=beech --where label=oak
"""


@click.command(epilog=_EXAMPLE)
@click.argument('pictures', metavar='PICTURE...', nargs=-1, required=True)
@click.option('--store', 'address', required=True, help='Folder of the store.')
@click.option('-k', default=10, show_default=True, type=click.IntRange(1), help='Neighbors of each picture.')
@click.option(
    '--where',
    multiple=True,
    metavar='COLUMN=VALUE',
    help='Search rows of this label or metadata only; several values of a column are given one by one.',
)
@store_model_option
@click.option('--device', help='Where to compute. Default: the GPU where there is one.')
@click.option('--json', 'as_json', is_flag=True, help='Print the neighbors as JSON.')
@debug_option
def search(**options: Any) -> None:
    """Print the nearest pictures of a store, with cosine similarity, label and path.

    PICTURE is a file or a folder of pictures.
    """
    from mmdml.cli.errors import run_command

    run_command(lambda: _search(options))


def _search(options: dict[str, Any]) -> None:
    from mmdml.apis import ImageRetrievalInferencer
    from mmdml.cli.misplaced_models import refuse_models_as_pictures, refuse_models_as_stores
    from mmdml.cli.stores import chosen, open_to_read

    refuse_models_as_pictures(options['pictures'])
    refuse_models_as_stores([options['address']])
    for picture in options['pictures']:
        if not os.path.exists(picture):
            raise FileNotFoundError(2, 'no such file', picture)
    where = chosen(options['where'])
    embed, store = open_to_read(options)
    with store:
        found = ImageRetrievalInferencer(embed, store)(list(options['pictures']), options['k'], where)
    if not found.names:
        raise ValueError(f'{found.unreadable[0].name} cannot be searched by: {found.unreadable[0].reason}')
    if options['as_json']:
        click.echo(json.dumps(_facts(found)))
    else:
        _show(found)


def _facts(found: 'RetrievedImages') -> dict[str, Any]:
    queries = [
        dict(path=name, matches=[_match(match) for match in matches])
        for name, matches in zip(found.names, found.matches, strict=True)
    ]
    return dict(queries=queries, unreadable=[dict(path=each.name, reason=each.reason) for each in found.unreadable])


def _match(match: 'Match') -> dict[str, Any]:
    return dict(score=match.score, path=match.path, label=match.label, id=match.id, metadata=dict(match.metadata))


def _show(found: 'RetrievedImages') -> None:
    from mmdml.utils.names import printable

    for name, matches in zip(found.names, found.matches, strict=True):
        if len(found.names) > 1:
            click.echo(f'{printable(name)}:')
        if not matches:
            click.echo('no picture of the store fits')
        width = max((len(printable(match.label)) for match in matches), default=0)
        for match in matches:
            click.echo(f'{match.score:6.3f}  {printable(match.label):{width}}  {printable(_near(match.path))}')
    for each in found.unreadable:
        click.echo(f'unreadable: {printable(each.name)}: {each.reason}', err=True)


def _near(path: str) -> str:
    """Return the shorter of the path and the one from here."""
    return min(path, os.path.relpath(path), key=len)
