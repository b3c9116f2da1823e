"""``mmdml info``: what a model is."""

import json
from typing import Any

import click

from mmdml.cli.options import debug_option

_EXAMPLE = """\b
Example:
  mmdml info default
  mmdml info runs/photos-1 --json
"""


@click.command(epilog=_EXAMPLE)
@click.argument('model', default='default')
@click.option('--json', 'as_json', is_flag=True, help='Print the facts as JSON.')
@debug_option
def info(model: str, as_json: bool, **options: Any) -> None:
    """Show layers, input, size, hash, training and scores of MODEL, which is named as --model is."""
    from mmdml.cli.errors import run_command

    run_command(lambda: _info(model, as_json))


def _info(model: str, as_json: bool) -> None:
    from mmdml.apis.model_facts import model_facts

    facts = model_facts(model)
    if as_json:
        click.echo(json.dumps(facts))
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        if isinstance(value, dict):
            click.echo(key.replace('_', ' '))
            for name, each in value.items():
                click.echo(f'  {name:{width}} {each}')
        else:
            click.echo(f'{key.replace("_", " "):{width + 2}} {value}')
