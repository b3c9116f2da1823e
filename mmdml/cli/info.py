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
    _show(facts)


def _show(facts: dict[str, Any], indent: str = '') -> None:
    """Print a line for each fact, and those of a group indented below its name."""
    width = max(map(len, facts), default=0)
    for key, value in facts.items():
        name = key.replace('_', ' ')
        # Scores on several sets of pictures, each a group.
        groups = value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]
        for each in groups:
            if isinstance(each, dict):
                click.echo(f'{indent}{name}')
                _show(each, f'{indent}  ')
            else:
                text = ' -> '.join(map(str, each)) if isinstance(each, list) else each
                click.echo(f'{indent}{name:{width}}  {text}')
