"""``mmdml verify``: whether a dataset is whole."""

from typing import Any

import click

from mmdml.cli.options import debug_option, quiet_loading
from mmdml.utils.image_files import MAX_PIXELS

_EXAMPLE = """\b
Example:
  mmdml verify CUB200 --data-root data/CUB_200_2011
  mmdml verify mine.py --workers 8 --json
"""


@click.command(epilog=_EXAMPLE)
@click.argument('what', metavar='CONFIG_OR_TYPE')
@click.option('--data-root', help="Folder of the dataset. Default: the config's, or that of the dataset.")
@click.option('--split', help='Check this split only, e.g. train, test, query, small.')
@click.option('--workers', default=4, show_default=True, type=click.IntRange(1), help='Images to open at a time.')
@click.option(
    '--max-pixels',
    default=MAX_PIXELS,
    show_default=True,
    type=click.IntRange(1),
    help='An image of more pixels is broken.',
)
@click.option('--no-images', is_flag=True, help='Count only, open no image.')
@click.option('--json', 'as_json', is_flag=True, help='Print JSON, with all broken images.')
@debug_option
def verify(**options: Any) -> None:
    """Compare a dataset with its official counts, and open every image.

    CONFIG_OR_TYPE is a config, which stands for the datasets of its loaders, or the name of a dataset such as CUB200.
    The exit code is 1 if anything is off.
    """
    from mmdml.cli.errors import run_command

    run_command(lambda: _verify(options))


def _verify(options: dict[str, Any]) -> None:
    import json
    import sys

    from mmdml.cli.dataset_report import as_text, check_all

    quiet_loading()
    reports = check_all(
        options['what'],
        options['data_root'],
        options['split'],
        not options['no_images'],
        options['workers'],
        options['max_pixels'],
    )
    click.echo(json.dumps(reports, indent=2) if options['as_json'] else '\n\n'.join(map(as_text, reports)))
    if not all(report['ok'] for report in reports):
        sys.exit(1)
