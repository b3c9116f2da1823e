"""``mmdml browse``: pictures of a dataset as the model will see them."""

import os
from typing import Any

import click

from mmdml.cli.options import debug_option, quiet_loading, refuse_given

_EXAMPLE = """\b
Example:
  mmdml browse photos --out sheets
  mmdml browse mine.py --phase train --mode pipeline-grid --out sheets
"""


@click.command(epilog=_EXAMPLE)
@click.argument('data', metavar='CONFIG_OR_FOLDER')
@click.option('--out', required=True, help='Folder for the PNG files.')
@click.option(
    '--phase', default='train', show_default=True, type=click.Choice(['train', 'val', 'test']), help='Loader.'
)
@click.option('--number', '-n', default=32, show_default=True, help='Images.')
@click.option('--images-per-class', '-k', default=4, show_default=True, help='Images in a row.')
@click.option(
    '--mode',
    default='transformed',
    show_default=True,
    type=click.Choice(['original', 'transformed', 'pipeline-grid']),
    help='Images as they are, as the model gets them, or every stage between.',
)
@click.option('--epoch', default=0, show_default=True, type=click.IntRange(0), help='Epoch of the augmentation.')
@click.option(
    '--seed', default=0, show_default=True, type=click.IntRange(0), help='Seed of the choice and of the augmentation.'
)
@debug_option
def browse(**options: Any) -> None:
    """Draw random pictures of random classes as the loaders of a config, or those of a folder of classes.

    Names of classes stand below the pictures. With --mode pipeline-grid each row shows one picture after every step of
    its pipeline.
    """
    from mmdml.cli.errors import run_command

    run_command(lambda: _browse(options))


def _browse(options: dict[str, Any]) -> None:
    quiet_loading()
    sizes = dict(number=options['number'], per_class=options['images_per_class'], mode=options['mode'])
    sizes |= dict(epoch=options['epoch'], seed=options['seed'])
    draw = browse_folder if os.path.isdir(options['data']) else browse_config
    if draw is browse_folder:
        refuse_given(('phase',), 'chooses a loader of a config, and a folder has none')
    more = {} if draw is browse_folder else dict(phase=options['phase'])
    for path in draw(options['data'], options['out'], **more, **sizes):
        click.echo(path)


def browse_config(
    config: str, out: str, phase: str = 'train', overrides: dict[str, Any] | None = None, **sizes: Any
) -> list[str]:
    """Write contact sheets of the dataset of a config's loader, see ``write_contact_sheets``.

    Raises:
        ValueError: the config has no such loader; otherwise as ``write_contact_sheets``.
    """
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from mmdml.registry import DATASETS
    from mmdml.visualization import write_contact_sheets

    cfg = Config.fromfile(config)
    if overrides:
        cfg.merge_from_dict(overrides)
    init_default_scope(cfg.get('default_scope', 'mmdml'))
    loader = cfg.get(f'{phase}_dataloader')
    if loader is None:
        raise ValueError(f'{config} has no {phase}_dataloader')
    return write_contact_sheets(DATASETS.build(loader.dataset), out, f'{phase}_{sizes["mode"]}', **sizes)


def browse_folder(folder: str, out: str, **sizes: Any) -> list[str]:
    """Write contact sheets of a folder of classes, as its files are."""
    from mmengine.registry import init_default_scope

    from mmdml.datasets import ImageFolder
    from mmdml.visualization import write_contact_sheets

    init_default_scope('mmdml')
    dataset = ImageFolder(data_root=folder, split='train', pipeline=[dict(type='LoadImageFromFile')])
    return write_contact_sheets(dataset, out, os.path.basename(os.path.abspath(folder)), **sizes)
