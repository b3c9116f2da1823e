"""``mmdml draw``: pictures of a file of embeddings."""

from typing import Any

import click

from mmdml.cli.options import debug_option, quiet_loading

_EXAMPLE = """\b
Example:
  mmdml draw test.npz --out pictures
  mmdml draw test.npz --kind worst_queries --kind map --map umap --out pictures
"""


@click.command(epilog=_EXAMPLE)
@click.argument('file')
@click.option('--out', required=True, help='Folder for the PNG files.')
@click.option(
    '--kind',
    'kinds',
    multiple=True,
    metavar='KIND',
    help='Draw this one only (may be given several times): retrieval, worst_queries, confused_pairs, confusions, map, '
    'picture_map, similarities or clusters.',
)
@click.option('--labels', metavar='FILE', help='.npy, .txt, .csv or .tsv file of labels, if FILE has none.')
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
@click.option('--seed', default=0, show_default=True, help='Seed of the choice.')
@debug_option
def draw(**options: Any) -> None:
    """Draw pictures of the embeddings in FILE, as 'mmdml test FOLDER --out FILE.npz' writes it.

    retrieval and worst_queries are sheets of queries with their nearest pictures, green where the class is right and
    red where it is wrong; confused_pairs and confusions show classes that are taken for each other; map and picture_map
    lay the embeddings out in the plane; similarities are cosines within and between classes; clusters are those of
    k-means. Pictures are read from the paths that FILE holds.
    """
    from mmdml.cli.errors import run_command

    run_command(lambda: _draw(options))


def _draw(options: dict[str, Any]) -> None:
    from mmdml.functional.embedding_files import read_embeddings
    from mmdml.visualization import draw_embeddings

    quiet_loading()
    saved = read_embeddings(options['file'], options['labels'])
    written = draw_embeddings(
        saved.embeddings,
        saved.facts,
        options['out'],
        options['kinds'],
        number=options['rows'],
        k=options['k'],
        seed=options['seed'],
        projection=options['projection'],
        num_clusters=options['clusters'],
    )
    for path in written:
        click.echo(path)
