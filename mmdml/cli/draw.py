"""``mmdml draw``: pictures of a file of embeddings, or of what IAA and D&C make of a training set."""

import os
from typing import TYPE_CHECKING, Any

import click

from mmdml.cli.options import debug_option, quiet_loading, refuse_given

if TYPE_CHECKING:
    import numpy as np

_EXAMPLE = """\b
Example:
  mmdml draw test.npz --out pictures
  mmdml draw test.npz --kind worst_queries --kind map --map umap --out pictures
  mmdml draw runs/photos-1 --out pictures
  mmdml draw configs/iaa/iaa_ms_conv4_omniglot.py epoch_15.pth --out pictures
"""
# Options that say nothing of a run.
_OF_EMBEDDINGS = ('labels', 'pictures', 'rows', 'k', 'projection', 'clusters')


@click.command(epilog=_EXAMPLE)
@click.argument('file', metavar='FILE_OR_RUN')
@click.argument('checkpoint', required=False)
@click.option('--out', required=True, help='Folder for the PNG files.')
@click.option(
    '--kind',
    'kinds',
    multiple=True,
    metavar='KIND',
    help='Draw this one only (may be given several times): retrieval, worst_queries, confused_pairs, confusions, map, '
    'picture_map, similarities or clusters; of a run: synthetic_rows, class_spread or division.',
)
@click.option('--labels', metavar='FILE', help='.npy, .txt, .csv or .tsv file of labels, if FILE has none.')
@click.option(
    '--pictures',
    metavar='FOLDER',
    help='That the paths in FILE start from. Default: where mmdml embed found them, or the current folder.',
)
@click.option('--rows', default=8, show_default=True, type=click.IntRange(1), help='Queries, or pairs, of a sheet.')
@click.option('-k', default=8, show_default=True, type=click.IntRange(1), help='Neighbors of a query.')
@click.option(
    '--map',
    'projection',
    default='pca',
    show_default=True,
    type=click.Choice(['pca', 'umap']),
    help='Way to the plane.',
)
@click.option('--clusters', default=8, show_default=True, type=click.IntRange(1), help='Clusters of k-means.')
@click.option('--seed', default=0, show_default=True, type=click.IntRange(0), help='Seed of the choice.')
@debug_option
def draw(**options: Any) -> None:
    """Draw pictures of the embeddings in a file, as 'mmdml test FOLDER --out FILE.npz' writes it, or of a run.

    retrieval and worst_queries are sheets of queries with their nearest pictures, green where the class is right and
    red where it is wrong; confused_pairs and confusions show classes that are taken for each other; map and picture_map
    lay the embeddings out in the plane; similarities are cosines within and between classes; clusters are those of
    k-means. Pictures are read from the paths that the file, or the folder of 'mmdml embed', holds.

    A run is the folder that 'mmdml train' wrote, or a config with a CHECKPOINT. Its training set is drawn: with IAA, as
    in the recipe many_images, synthetic_rows among the real ones, and class_spread before and after the correction;
    with D&C its division into clusters.
    """
    from mmdml.cli.errors import run_command

    run_command(lambda: _draw(options))


def _draw(options: dict[str, Any]) -> None:
    quiet_loading()
    file, checkpoint = options['file'], options['checkpoint']
    is_run = os.path.isfile(os.path.join(file, 'recipe.py'))
    if file.endswith('.py') != (checkpoint is not None):
        raise click.UsageError('a config and a checkpoint go together: mmdml draw CONFIG.py epoch_N.pth --out FOLDER')
    if checkpoint is not None or is_run:
        from mmdml.cli.run_drawings import checkpoint_of_run, draw_run

        refuse_given(_OF_EMBEDDINGS, 'is for a file of embeddings: of a run its training set is drawn')
        found = checkpoint_of_run(file) if is_run else (file, checkpoint)
        written = draw_run(*found, options['out'], options['kinds'], options['seed'])
    else:
        written = _draw_embeddings(options)
    for path in written:
        click.echo(path)


def _draw_embeddings(options: dict[str, Any]) -> list[str]:
    from mmdml.functional.embedding_files import read_embeddings
    from mmdml.utils.names import printable
    from mmdml.utils.shards import pictures_folder
    from mmdml.visualization import draw_embeddings
    from mmdml.visualization.tiles import read_picture

    saved = read_embeddings(options['file'], options['labels'])
    root = options['pictures'] or pictures_folder(options['file'])
    from_no_folder = saved.facts.paths is not None and all(map(os.path.isabs, saved.facts.paths))
    if options['pictures'] is not None and from_no_folder:
        raise ValueError(
            f'--pictures {options["pictures"]}: the paths in {options["file"]} are whole ones, such as '
            f'{printable(str(saved.facts.paths[0]))}, and start from no folder; leave it out'
        )
    were_read = set()

    def picture(row: int) -> 'np.ndarray | None':
        if saved.facts.paths is None:
            return None
        found = read_picture(os.path.join(root, str(saved.facts.paths[row])))
        were_read.add(found is not None)
        return found

    written = draw_embeddings(
        saved.embeddings,
        saved.facts,
        options['out'],
        options['kinds'],
        picture,
        number=options['rows'],
        k=options['k'],
        seed=options['seed'],
        projection=options['projection'],
        num_clusters=options['clusters'],
    )
    if were_read == {False}:
        example = printable(os.path.abspath(os.path.join(root, str(saved.facts.paths[0]))))
        remedy = '' if from_no_folder else '; name the folder that paths start from: --pictures FOLDER'
        click.echo(f'no picture could be read, such as {example}{remedy}', err=True)
    return written
