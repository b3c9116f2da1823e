"""The command ``mmdml``: it finds its commands by name and imports the one that runs."""

import importlib
import warnings

import click

from mmdml import __version__
from mmdml.utils.near_names import did_you_mean

#: Command -> its module, which has a function of that name, and a line of help. Modules import torch when they run, not
#: before: help is there at once.
COMMANDS = {
    'demo': ('mmdml.cli.demo', 'Search a gallery that comes with mmdml, on a page in the browser.'),
    'embed': ('mmdml.cli.embed', 'Embed the pictures of a folder into files.'),
    'train': ('mmdml.cli.train', 'Train a model on a folder of pictures.'),
    'test': ('mmdml.cli.test', 'Score a model on a folder of pictures.'),
    'list': ('mmdml.cli.list', 'Show the models by what they need.'),
    'publish': ('mmdml.cli.publish', 'Write a model as a folder to pass on.'),
    'info': ('mmdml.cli.info', 'Show what a model is.'),
    'index': ('mmdml.cli.index', 'Bring the pictures of a folder into a store.'),
    'search': ('mmdml.cli.search', 'Print the pictures of a store that are nearest to a picture.'),
    'duplicates': ('mmdml.cli.duplicates', 'List pictures that are in a store twice, or in two stores.'),
    'serve': ('mmdml.cli.serve', 'Serve stores as a search page in the browser.'),
    'evaluate': ('mmdml.cli.evaluate', 'Score finished embeddings.'),
    'prepare': ('mmdml.cli.prepare', 'Lay out a benchmark from its official files.'),
    'verify': ('mmdml.cli.verify', 'Check that a dataset is whole.'),
    'browse': ('mmdml.cli.browse', 'Draw pictures of a dataset as the model will see them.'),
    'draw': ('mmdml.cli.draw', 'Draw what a file of embeddings retrieves, maps and confuses.'),
    'export': ('mmdml.cli.export', 'Write a model as ONNX, OpenVINO or torch.export file.'),
}

_EXAMPLE = """\b
Example, from a folder of pictures to a page that searches them:
  mmdml index photos --store photos.store
  mmdml serve photos.store
"""


class _Commands(click.Group):
    """Commands that are imported when they are called by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith('-'):
            ctx.fail(f'there is no command {args[0]!r}{did_you_mean(args[0], COMMANDS)}')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section('Commands'):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=_Commands, context_settings=dict(help_option_names=['-h', '--help']), epilog=_EXAMPLE)
@click.version_option(__version__, prog_name='mmdml')
def main() -> None:
    """Deep metric learning: pictures to embeddings. 'mmdml COMMAND --help' explains a command."""
    # mmcv misses compiled operators that no model here uses.
    warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')


if __name__ == '__main__':
    main(prog_name='mmdml')
