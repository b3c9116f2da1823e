"""``mmdml train``: a model for one's own pictures."""

from typing import Any

import click

from mmdml.cli.config_command import FolderOrConfig
from mmdml.cli.options import FiniteRange, debug_option, model_option

_EXAMPLE = """\b
Example:
  mmdml train photos
  mmdml train photos --model timm/vit_small_patch14_dinov2.lvd142m --epochs 5 --lr 1e-5
  mmdml train photos --resume
  mmdml train configs/iaa/iaa_ms_conv4_omniglot.py --help
"""


@click.command(cls=FolderOrConfig, on_config='mmdml.cli.config_runs:train_config', epilog=_EXAMPLE)
@click.argument('data', metavar='FOLDER')
@model_option
@click.option('--image-size', type=click.IntRange(8), help='Side of the input in pixels. Default: that of the model.')
@click.option(
    '--batch-size', type=click.IntRange(4), help='Pictures in a batch, four of a class. Default: 64, or what there is.'
)
@click.option('--epochs', type=click.IntRange(1), help='Passes over the pictures. Default: of the recipe.')
@click.option('--lr', type=FiniteRange(0, min_open=True), help='Learning rate. Default: of the recipe.')
@click.option('--seed', type=click.IntRange(0), help='Of all that is drawn but the held-out classes. Default: 0.')
@click.option(
    '--hold-out',
    type=FiniteRange(0, 1, max_open=True),
    help='Share of the classes that is not trained on but scored, two at least; 0 for none. Default: 0.2.',
)
@click.option('--recipe', help='A config of configs/recommended, or a path. Default: frozen_backbone.')
@click.option('--workers', type=click.IntRange(0), help='Processes that read pictures. Default: by the machine.')
@click.option(
    '--out',
    help='What the folders of runs begin with: models/birds makes models/birds-1. Default: runs/NAME_OF_FOLDER.',
)
@click.option('--resume', is_flag=True, help='Go on with the newest run, which was stopped.')
@debug_option
def train(**options: Any) -> None:
    """Train a model on FOLDER, which has a folder for each class.

    A list with lines "path label", or a table with these columns, is taken as well. Some classes are held out; the
    model is scored on them before and after the training. What comes out is one folder, which every command takes as
    --model.

    FOLDER can also be a config file or its name in mmdml list, with MMEngine's flags.
    """
    from mmdml.cli.errors import run_command
    from mmdml.cli.folder_training import train_folder

    run_command(lambda: train_folder(options))
