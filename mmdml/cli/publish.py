"""``mmdml publish``: a model as a folder to pass on."""

from typing import Any

import click

from mmdml.cli.options import debug_option, quiet_loading

_EXAMPLE = """\b
Example:
  mmdml publish runs/photos-1 --name beech-or-oak --test more_photos
  mmdml publish mine.py:epoch_10.pth --config-test --config-test "test_dataloader.dataset.ann_file=hard.txt"
  mmdml publish mine.py:epoch_10.pth --name mine --data "2,979 pictures of 40 classes" --license mine=LICENSE
"""


@click.command(epilog=_EXAMPLE)
@click.argument('model')
@click.option('--name', help='Of the model. Default: that of the folder or config.')
@click.option('--out', default='published', show_default=True, help='Folder for the new folder.')
@click.option('--half/--full', default=True, show_default=True, help='Keep the weights as fp16, at half the size.')
@click.option('--test', 'tested', multiple=True, help='Folder or list of classes it was not trained on, to score it.')
@click.option(
    '--config-test',
    'config_tests',
    multiple=True,
    is_flag=False,
    flag_value='',
    metavar='[KEY=VALUE ...]',
    help='Score it as tools/test.py does, on the test data of its config, with these --cfg-options.',
)
@click.option('--data', help='What it was trained on, in words.')
@click.option('--command', help='That trained it.')
@click.option('--commit', help='Of the code that trained it.')
@click.option('--limit', 'limits', multiple=True, help='A sentence on what the model is not for.')
@click.option('--license', 'licenses', multiple=True, metavar='NAME=FILE', help='License text to keep beside it.')
@debug_option
def publish(**options: Any) -> None:
    """Write MODEL as a folder with a card: weights only, with their hash in its name.

    The scores of --test and --config-test are those of what is written, after rounding to fp16; scores that a folder
    has from its training are marked as of before. MODEL is named as --model is.
    """
    from mmdml.cli.errors import run_command
    from mmdml.cli.publishing import publish_model

    quiet_loading()
    run_command(lambda: click.echo(publish_model(options)))
