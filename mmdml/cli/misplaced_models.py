"""Models that stand where a command takes pictures or a store: the error has the command to type."""

import os
import shlex
from collections.abc import Iterable

import click

from mmdml.utils.names import printable


def refuse_models_as_pictures(places: Iterable[str]) -> None:
    """Check the arguments of the present command that name pictures.

    Args:
        places: paths, or what was typed in their place.

    Raises:
        ValueError: one is a model.
    """
    context = click.get_current_context()
    for place in filter(_is_model, places):
        needed = [each for each in context.command.params if isinstance(each, click.Option) and each.required]
        options = [word for each in needed for word in (each.opts[0], context.params[each.name])]
        command = f'{context.command_path} PICTURES --model {shlex.join([place, *options])}'
        raise ValueError(f'{printable(place)} is a model, not pictures; name it by --model: {printable(command)}')


def refuse_models_as_stores(addresses: Iterable[str]) -> None:
    """Check the arguments of a command that name stores.

    Raises:
        ValueError: one is a model.
    """
    for address in filter(_is_model, addresses):
        store = shlex.quote(f'{os.path.basename(os.path.abspath(address))}.store')
        command = f'mmdml index PICTURES --store {store} --model {shlex.quote(address)}'
        raise ValueError(f'{printable(address)} is a model, not a store; make one with it: {printable(command)}')


def _is_model(place: str) -> bool:
    """Whether this names a model, and nothing else: what is there counts as what it is."""
    from mmdml.apis.model_names import EXPORTED, find_model

    if os.path.exists(place):
        return os.path.isfile(os.path.join(place, 'model.json')) or place.lower().endswith(EXPORTED)
    try:
        find_model(place)
    except (FileNotFoundError, ValueError):
        return False
    return True
