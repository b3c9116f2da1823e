"""``mmdml serve``: stores as a page in the browser."""

from typing import Any

import click

from mmdml.cli.options import FiniteRange, debug_option, quiet_loading, store_model_option

_EXAMPLE = """\b
Example:
  mmdml serve photos.store
  mmdml serve small.store large.store --port 9000
"""


@click.command(epilog=_EXAMPLE)
@click.argument('stores', nargs=-1, required=True)
@store_model_option
@click.option(
    '--host', default='127.0.0.1', show_default=True, help='Address to listen at; elsewhere a token is needed.'
)
@click.option(
    '--port',
    type=click.IntRange(0, 65535),
    help='Of the page, 0 for any that is free. Default: 8000, or any if that is taken.',
)
@click.option('--open/--no-open', 'open_browser', default=False, help='Open the page in a browser.')
@click.option(
    '--token', envvar='MMDML_TOKEN', help='That visitors must bring. Default: a random one where one is needed.'
)
@click.option('--marks', help='File for marked results. Default: one for all stores of this user.')
@click.option(
    '--max-upload',
    default=20.0,
    show_default=True,
    type=FiniteRange(0, min_open=True),
    help='Size limit of a picture in MB.',
)
@click.option('--device', help='Where to compute. Default: the GPU where there is one.')
@debug_option
def serve(**options: Any) -> None:
    """Serve STORES as a page: drop a picture, see what is near it."""
    from mmdml.cli.errors import run_command

    run_command(lambda: _serve(options))


def _serve(options: dict[str, Any]) -> None:
    from mmdml.cli.misplaced_models import refuse_models_as_stores
    from mmdml.web import open_galleries
    from mmdml.web import serve as serve_galleries
    from mmdml.web.uploads import UploadLimits

    quiet_loading()
    refuse_models_as_stores(options['stores'])
    galleries = open_galleries(options['stores'], options['model'], options['device'])
    serve_galleries(
        galleries,
        options['host'],
        options['port'],
        options['open_browser'],
        options['token'],
        options['marks'],
        UploadLimits(megabytes=options['max_upload']),
    )
