"""``mmdml list``: the models that can be named."""

import json
from typing import Any

import click

from mmdml.cli.options import debug_option

_EXAMPLE = """\b
Example:
  mmdml list
  mmdml list 'iaa_*_cub'
  mmdml list --json
"""
# Names of the index that are shown where no pattern is given.
_SHOWN = 5


@click.command(epilog=_EXAMPLE)
@click.argument('pattern', required=False)
@click.option('--json', 'as_json', is_flag=True, help='Print the models as JSON.')
@debug_option
def list(pattern: str | None, as_json: bool, **options: Any) -> None:
    """Show the models by what they need: nothing, a download, or weights of your own.

    PATTERN limits the names, with * and ?.
    """
    from mmdml.cli.errors import run_command

    run_command(lambda: _list(pattern, as_json))


def _list(pattern: str | None, as_json: bool) -> None:
    from mmdml.apis.model_index import DEFAULT, DEFAULT_IS, available_models
    from mmdml.utils.names import printable

    found = available_models(pattern)
    if as_json:
        click.echo(json.dumps(found))
        return
    if not any(found.values()):
        raise ValueError(f'no model has a name like {printable(pattern)!r}; mmdml list shows what there is')
    notes = {
        DEFAULT: f'what commands take where no model is named: {DEFAULT_IS}',
        'timm/NAME': "any model of timm: mmdml list 'timm/vit_small*' shows names",
    }
    titles = dict(
        offline='Work at once, offline:',
        downloaded='Weights are downloaded at first use:',
        own_weights='Need weights of your own, as NAME:CHECKPOINT; train them with the config of that name:',
    )
    for group, title in titles.items():
        click.echo(title)
        names = found[group] if pattern or group != 'own_weights' else found[group][:_SHOWN]
        width = max((len(name) for name in names if name in notes), default=0)
        for name in names:
            click.echo(f'  {name:{width}}  {notes[name]}' if name in notes else f'  {name}')
        left = len(found[group]) - len(names)
        if left:
            click.echo(f"  and {left} more: mmdml list '*' shows them all")
        elif not names:
            click.echo('  none')
    click.echo('Also: a model folder, CONFIG.py:CHECKPOINT, FILE.onnx. mmdml info MODEL says more.')
