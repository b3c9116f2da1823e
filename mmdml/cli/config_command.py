"""Commands that take a folder with a few options, or a config file with the flags of MMEngine."""

import importlib
import os
from typing import Any

import click


class FolderOrConfig(click.Command):
    """A command whose arguments, where they begin with a config, go to a function for configs.

    A config is a path that ends in ``.py``, or a name of the model index, which stands for its config.

    Args:
        on_config: ``'module:function'``; it is imported and called with the arguments and the name of the command.
    """

    def __init__(self, *args: Any, on_config: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_config = on_config

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and (args[0].endswith('.py') or is_a_name(args[0])):
            ctx.obj = list(args)
            return []
        rest = super().parse_args(ctx, args)
        if (path := ctx.params['data']).endswith('.py'):
            raise click.UsageError(f'a config comes before its flags: {ctx.command_path} {path} ...')
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        if ctx.obj is None:
            return super().invoke(ctx)
        from mmdml.cli.errors import run_command

        module, _, function = self.on_config.partition(':')
        run = getattr(importlib.import_module(module), function)
        return run_command(lambda: run(ctx.obj, ctx.command_path))


def is_a_name(text: str) -> bool:
    """Whether an argument is a name of the model index, and no path or flag."""
    # Reading the index takes a moment, which paths and help need not wait for.
    if text[:1] == '-' or text.endswith('.py') or os.sep in text or os.path.exists(text):
        return False
    from mmdml.apis.model_index import model_index

    return text in model_index()
