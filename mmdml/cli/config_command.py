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
        with_weights: whether a name of the index also stands for its weights, where it has some and no checkpoint
            follows it.
    """

    def __init__(self, *args: Any, on_config: str, with_weights: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_config, self.with_weights = on_config, with_weights

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0].endswith('.py'):
            ctx.obj = list(args)
            return []
        if args and _may_be_a_name(args[0]):
            ctx.obj = self._of_the_index(args)
            if ctx.obj is not None:
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

    def _of_the_index(self, args: list[str]) -> list[str] | None:
        """Return the arguments with a config in place of its name, None for no name of the index."""
        from mmdml.apis.model_index import PACKAGED, model_index
        from mmdml.apis.model_names import find_model

        name, *rest = args
        if name not in model_index():
            return None
        weights = find_model(name).weights if self.with_weights and not (rest and rest[0][:1] != '-') else ''
        return [str(PACKAGED / model_index()[name]['Config']), *([weights] if weights else []), *rest]


def _may_be_a_name(text: str) -> bool:
    """Whether an argument can be a name of the index: reading that takes a moment, which help need not wait for."""
    return text[:1] != '-' and os.sep not in text and not os.path.exists(text)
