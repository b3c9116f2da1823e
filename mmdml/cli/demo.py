"""``mmdml demo``: a small gallery and its search page, at once."""

from typing import Any

import click

from mmdml.cli.options import debug_option, model_option, quiet_loading

_EXAMPLE = """\b
Example:
  mmdml demo
  mmdml demo --port 9000 --no-open
"""


@click.command(epilog=_EXAMPLE)
@model_option
@click.option('--port', type=click.IntRange(0, 65535), help='Of the page. Default: 8000, or any that is free.')
@click.option('--open/--no-open', 'open_browser', default=True, show_default=True, help='Open the page in a browser.')
@click.option('--device', help='Where to compute. Default: the GPU where there is one.')
@debug_option
def demo(**options: Any) -> None:
    """Search photographs of groceries that come with mmdml, on a page in the browser.

    The embeddings of the default model come with the pictures; the first start with another model embeds all 492.
    The store is kept in the user's cache folder.
    """
    from mmdml.cli.errors import run_command

    run_command(lambda: _demo(options))


def _demo(options: dict[str, Any]) -> None:
    from mmdml.web import Gallery, serve  # before any work: the extra may be missing

    quiet_loading()
    from mmdml.apis import ImageEmbeddingInferencer
    from mmdml.apis.demo_gallery import open_demo_store
    from mmdml.apis.model_names import find_model

    embed = ImageEmbeddingInferencer(options['model'], device=options['device'])
    with open_demo_store(embed, model=find_model(options['model']).absolute) as store:
        embed.progress = False
        gallery = Gallery('groceries', store, embed, str(store.folder), options['model'])
        serve([gallery], port=options['port'], open_browser=options['open_browser'])
