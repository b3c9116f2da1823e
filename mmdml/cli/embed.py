"""``mmdml embed``: a folder of pictures to files of embeddings."""

import os
from typing import Any

import click

from mmdml.cli.options import debug_option, model_option, quiet_loading

_EXAMPLE = """\b
Example:
  mmdml embed photos --out embeddings
  mmdml embed photos --model mine.py:epoch_10.pth --out embeddings
"""


@click.command(epilog=_EXAMPLE)
@click.argument('folder')
@model_option
@click.option('--out', required=True, help='Folder for the files.')
@click.option('--batch-size', default=32, show_default=True, help='Pictures at a time.')
@click.option('--workers', type=int, help='Threads that read pictures. Default: one for each core.')
@click.option('--shard-size', default=4096, show_default=True, help='Pictures in a file.')
@click.option('--device', help='Where to compute. Default: the GPU where there is one.')
@debug_option
def embed(**options: Any) -> None:
    """Embed the pictures in FOLDER and below it.

    Files that are there are not made again, so that a command that was stopped goes on where it ended. Under torchrun
    each process makes its share of the files.
    """
    from mmdml.cli.errors import run_command

    run_command(lambda: _embed(options))


def _embed(options: dict[str, Any]) -> None:
    from mmdml.apis import ImageEmbeddingInferencer
    from mmdml.apis.embedding_shards import write_shards
    from mmdml.cli.misplaced_models import refuse_models_as_pictures
    from mmdml.utils.image_files import others_note

    refuse_models_as_pictures([options['folder']])
    quiet_loading()
    rank, ranks = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
    embed_images = ImageEmbeddingInferencer(
        options['model'],
        device=options['device'],
        batch_size=options['batch_size'],
        workers=options['workers'],
        progress=rank == 0,
    )
    done = write_shards(embed_images, options['folder'], options['out'], options['shard_size'], rank, ranks)
    for note in others_note(options['folder'], done.left_out) if rank == 0 else ():
        click.echo(f'warning: {note}', err=True)
    skipped = f', {done.skipped} were there' if done.skipped else ''
    unreadable = (
        f'; {done.unreadable} could not be read: names and reasons are in {options["out"]}/*.jsonl'
        if done.unreadable
        else ''
    )
    click.echo(f'{done.pictures} embeddings in {done.written} files{skipped}{unreadable}')
