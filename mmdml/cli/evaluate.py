"""``mmdml evaluate``: scores of finished embeddings."""

from typing import TYPE_CHECKING, Any

import click

from mmdml.cli.options import debug_option, quiet_loading

if TYPE_CHECKING:
    from argparse import Namespace

_EXAMPLE = """\b
Example:
  mmdml evaluate test.npz
  mmdml evaluate test.npy --labels labels.txt --recall-at 1,10,100 --json scores.json
  mmdml evaluate test.npz --protocol "SingleGalleryShot repeats=10" --clustering "NMI F1"
  mmdml evaluate test.npz --rerank --expand "k=10 alpha=3"
"""

#: Options that hold lists or settings, their form, and what they are; a bare flag takes the defaults where it may.
_NAMES = {
    'metrics': ('NAMES', 'Scores, e.g. Recall@K,MAP@R,mAP.'),
    'recall_at': ('K,...', 'K of Recall@K. Default: 1,2,4,8.'),
    'widths': ('D,...', 'Score the first D columns, too.'),
    'protocol': (
        'NAME SETTINGS',
        'Which rows search which, e.g. "SingleGalleryShot repeats=10". Default: roles decide.',
    ),
}
_SETTINGS = {
    'rerank': 'Re-ranking, e.g. "k1=20 k2=6 weight=0.3".',
    'expand': 'Query expansion, e.g. "k=10 alpha=3.0".',
    'whiten': 'PCA-whitening, e.g. "dim=128 fit=train.npz".',
    'clustering': 'Clustering scores, e.g. "NMI AMI F1 restarts=1".',
    'verification': 'EER, and TPR at FPR, e.g. "fpr=0.001,0.01".',
    'consistency': 'OPIS, e.g. "fpr_range=0.01,0.1 points=101".',
    'graded': 'Graded NDCG, e.g. "levels=coarse".',
}
CHOICES = {
    'distance': ('cosine', 'dot', 'euclidean', 'hyperbolic'),
    'ties': ('pessimistic', 'optimistic'),
    'no_positive': ('skip', 'miss'),
    'backend': ('torch', 'faiss'),
}


def _flag(name: str) -> str:
    return '--' + name.replace('_', '-')


def _lists(command: Any) -> Any:
    """Add the options of the tables above."""
    for name, help in reversed(_SETTINGS.items()):
        command = click.option(_flag(name), is_flag=False, flag_value='', metavar='[SETTINGS]', help=help)(command)
    for name, known in reversed(CHOICES.items()):
        command = click.option(_flag(name), type=click.Choice(known), help=f'Default: {known[0]}.')(command)
    for name, (metavar, help) in reversed(_NAMES.items()):
        command = click.option(_flag(name), metavar=metavar, help=help)(command)
    return command


@click.command(epilog=_EXAMPLE)
@click.argument('file')
@click.option('--labels', metavar='FILE', help='.npy, .txt, .csv or .tsv file of labels, if FILE has none.')
@_lists
@click.option('--slices', type=int, help='Score each of so many slices, too.')
@click.option('--values', metavar='FILE', help='.csv file for every query, and NAME.classes.csv by class.')
@click.option('--device', help='Where to search. Default: the CPU.')
@click.option('--block-size', type=int, help='Queries searched at a time.')
@click.option('--json', metavar='FILE', help='Write scores and settings there; - prints them, without the table.')
@debug_option
def evaluate(**options: Any) -> None:
    """Score the embeddings in FILE (.npz, .npy or .parquet), of mmdml or of any other origin, in percent.

    Every option is explained in docs/evaluation.md. Settings are key=value with blanks between them, in quotes; without
    any, an option takes its defaults.
    """
    from mmdml.cli.errors import run_command

    run_command(lambda: _evaluate(options))


def _evaluate(options: dict[str, Any]) -> None:
    from mmdml.cli.embedding_scores import evaluate_file, report, show_progress

    quiet_loading()
    show_progress()
    report(evaluate_file(_arguments(options)), options['json'])


def _arguments(options: dict[str, Any]) -> 'Namespace':
    """Return the options as tools/analysis_tools/eval_embeddings.py has them, which takes one word a value."""
    from mmdml.cli.embedding_scores import parse_args

    args = parse_args(['FILE'])
    for name, text in options.items():
        if text is not None:
            setattr(args, name, _parsed(name, text))
    return args


def _parsed(name: str, text: Any) -> Any:
    value = text
    if name in ('metrics', 'recall_at', 'widths'):
        value = text.replace(',', ' ').split()
    elif name in _NAMES or name in _SETTINGS:
        value = text.split()
    if name in ('recall_at', 'widths'):
        value = [_whole(name, word) for word in value]
    if value in ('', []) and name not in _SETTINGS:
        raise ValueError(f'{_flag(name)} {text!r}: there is nothing in it')
    return value


def _whole(name: str, word: str) -> int:
    from mmdml.utils.tables import whole_number

    number = whole_number(word)
    if number is None:
        raise ValueError(f'{_flag(name)} {word}: must be a whole number, or several with commas')
    return number
