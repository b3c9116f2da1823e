"""``mmdml test``: how well a model tells the classes of a folder apart."""

import json
from typing import Any

import click

from mmdml.cli.config_command import FolderOrConfig
from mmdml.cli.options import debug_option, model_option, quiet_loading

_EXAMPLE = """\b
Example:
  mmdml test photos/test --model runs/photos-1
  mmdml test photos/test --model runs/photos-1 --out test.npz
  mmdml test ms_conv4_omniglot
  mmdml test configs/iaa/iaa_ms_conv4_omniglot.py epoch_15.pth --out embeddings.npz
"""


@click.command(cls=FolderOrConfig, on_config='mmdml.cli.config_runs:score_config', epilog=_EXAMPLE)
@click.argument('data', metavar='FOLDER')
@model_option
@click.option('--batch-size', default=32, show_default=True, help='Pictures at a time.')
@click.option('--workers', type=int, help='Threads that read pictures. Default: one for each core.')
@click.option('--device', help='Where to compute. Default: the GPU where there is one.')
@click.option('--out', metavar='FILE.npz', help='Write the embeddings there, for mmdml evaluate and mmdml draw.')
@click.option('--json', 'as_json', is_flag=True, help='Print the scores as JSON.')
@debug_option
def test(**options: Any) -> None:
    """Score a model on FOLDER, which has a folder for each class.

    Every picture searches all others; a list or table with path, label and role (query or gallery) is taken as well.
    Use classes that the model was not trained on: on others the scores say little.

    FOLDER can also be a config file with a checkpoint, with MMEngine's flags, or a name that mmdml list shows: its
    config and weights, on the test data of the config.
    """
    from mmdml.cli.errors import run_command

    run_command(lambda: _test(options))


def _test(options: dict[str, Any]) -> None:
    from mmdml.apis import ImageEmbeddingInferencer
    from mmdml.apis.model_folder import ModelFolder
    from mmdml.apis.model_names import find_model
    from mmdml.cli.folder_scores import folder_scores
    from mmdml.cli.misplaced_models import refuse_models_as_pictures
    from mmdml.utils.tables import plain_table

    refuse_models_as_pictures([options['data']])
    quiet_loading()
    given = {name: options[name] for name in ('batch_size', 'workers', 'device')}
    embed = ImageEmbeddingInferencer(options['model'], **given)
    folder = find_model(options['model']).folder
    known = ModelFolder.read(folder).classes if folder else ()
    found = folder_scores(embed, options['data'], known, options['out'])
    if options['as_json']:
        click.echo(json.dumps(dict(model=options['model'], **found)))
        return
    click.echo(f'{found["pictures"]:,} pictures of {found["classes"]:,} classes; percent')
    if found['unreadable']:
        click.echo(f'{len(found["unreadable"])} could not be read and are left out, e.g. {found["unreadable"][0]}')
    if found['trained_on']:
        click.echo(f'warning: the model was trained on {found["trained_on"]} of these classes', err=True)
    scores = found['scores']
    click.echo(plain_table([*scores], [[f'{value:.2f}' for value in scores.values()]], text_columns=0))
