"""Score saved embeddings of any origin.

    python tools/analysis_tools/eval_embeddings.py test.npz
    python tools/analysis_tools/eval_embeddings.py test.npy --labels labels.txt --recall-at 1 10 100 --json scores.json
    python tools/analysis_tools/eval_embeddings.py test.npz --protocol SingleGalleryShot repeats=10 --clustering NMI F1

FILE comes first. What it may hold is described in ``mmdml/functional/embedding_files.py``, every option in
``docs/evaluation.md``; ``tools/test.py --out`` writes such files. Scores are percentages. Options that take settings
take them as ``key=value``, lists with commas.
"""

import argparse
import json
import logging
import math
import sys
from collections.abc import Sequence
from typing import Any

import torch

import mmdml  # noqa: F401  (first: it makes torchvision importable beside a CPU-only torch)
from mmdml.cli.score_options import DEFAULTS, build_options, build_scoring
from mmdml.evaluation.functional.options import CHOICES
from mmdml.evaluation.score_units import as_percent, score_text
from mmdml.evaluation.value_tables import class_table
from mmdml.functional.embedding_files import read_embeddings
from mmdml.functional.shard_reader import files_of
from mmdml.utils.files import prepare_output, require_distinct, write_atomically
from mmdml.utils.tables import plain_table, whole_number

# What input can be at fault for; everything else is a fault of ours, and worth a traceback.
_EXPECTED = (ValueError, TypeError, KeyError, OSError, ImportError)


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command-line flags."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition('\n')[0], epilog='KEY=VALUE settings: see docs/evaluation.md'
    )
    parser.add_argument('file', help='.npz, .npy or .parquet file of embeddings')
    parser.add_argument('--labels', metavar='FILE', help='.npy, .txt, .csv or .tsv file of labels, if FILE has none')
    parser.add_argument('--metrics', nargs='+', help=f'default: {" ".join(DEFAULTS["metrics"])}')
    parser.add_argument('--recall-at', nargs='+', type=_whole, metavar='K', help='K of Recall@K; default: 1 2 4 8')
    for name, known in CHOICES.items():
        flag = '--' + name.replace('_', '-')
        parser.add_argument(flag, choices=known, default=DEFAULTS[name], help=f'default: {DEFAULTS[name]}')
    parser.add_argument('--protocol', nargs='+', metavar=('NAME', 'KEY=VALUE'), help='default: roles decide')
    parser.add_argument('--rerank', nargs='*', metavar='KEY=VALUE', help='re-ranking: k1=20 k2=6 weight=0.3')
    parser.add_argument('--expand', nargs='*', metavar='KEY=VALUE', help='query expansion: k=10 alpha=3.0')
    parser.add_argument('--whiten', nargs='*', metavar='KEY=VALUE', help='PCA-whitening: dim=128 fit=train.npz')
    parser.add_argument('--clustering', nargs='*', metavar='NAME or KEY=VALUE', help='NMI AMI F1 restarts=1 repeats=1')
    parser.add_argument('--verification', nargs='*', metavar='KEY=VALUE', help='EER, TPR at FPR: fpr=0.001,0.01')
    parser.add_argument('--consistency', nargs='*', metavar='KEY=VALUE', help='OPIS: fpr_range=0.01,0.1 points=101')
    parser.add_argument('--graded', nargs='*', metavar='KEY=VALUE', help='GradedNDCG: levels=coarse label_sets=labels')
    parser.add_argument('--widths', nargs='+', type=_whole, default=[], metavar='D', help='score the first D, too')
    parser.add_argument('--slices', type=int, default=0, metavar='K', help='score each of K slices, too')
    parser.add_argument('--values', metavar='FILE', help='.csv file for every query, and NAME.classes.csv by class')
    parser.add_argument('--device', help='default: cpu')
    parser.add_argument('--block-size', type=int, default=DEFAULTS['block_size'], help='queries searched at a time')
    parser.add_argument('--json', metavar='FILE', help='write scores and settings there; - for the terminal, no table')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    return parser.parse_args(arguments)


def _whole(text: str) -> int:
    """Read a whole number, which '1_0' and '1.0' are not.

    Raises:
        argparse.ArgumentTypeError: if it is none.
    """
    number = whole_number(text)
    if number is None:
        raise argparse.ArgumentTypeError(f'must be a whole number, got {text!r}')
    return number


def table(scores: dict[str, float]) -> str:
    """One line a part, one column a score: ``mean`` or ``mean ± standard deviation``."""
    lines: dict[str, dict[str, str]] = {}
    for key, value in scores.items():
        if not key.endswith('_std'):
            part, _, name = key.rpartition('/')
            std = scores.get(f'{key}_std')
            lines.setdefault(part, {})[name] = score_text(name, value) + (
                '' if std is None else f' ± {score_text(name, std)}'
            )
    names = list(dict.fromkeys(name for line in lines.values() for name in line))
    return plain_table(['', *names], [[part, *(line.get(name, '') for name in names)] for part, line in lines.items()])


def _check_device(name: str | None) -> None:
    try:
        torch.zeros(1, device=name).tolist()  # the device 'meta' makes tensors, but of nothing
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        # torch has a kind of error for each way in which a device is missing.
        raise ValueError(f'--device {name} cannot be used: {str(error).partition(chr(10))[0]}') from error


def _check_outputs(args: argparse.Namespace, options: dict[str, Any]) -> None:
    """Check that the outputs can be written, and are none of the inputs and no file twice."""
    read = (args.file, args.labels, (options['whitening'] or {}).get('fit'))
    inputs = [file for path in read if isinstance(path, str) for file in files_of(path)]
    outputs = {} if args.json in (None, '', '-') else {'--json': args.json}
    if args.values is not None:
        outputs |= {'--values': args.values, 'the table by class of --values': class_table(args.values)}
    for path in outputs.values():
        prepare_output(path, inputs=map(str, inputs))
    require_distinct(outputs)


def evaluate_file(args: argparse.Namespace) -> dict[str, Any]:
    """Return what goes to ``--json``: the file, its sizes, the options, and the scores in percent.

    Raises:
        ValueError, TypeError, KeyError, OSError, ImportError: for input that cannot be read or scored.
    """
    options = build_options(args)
    _check_outputs(args, options)
    _check_device(args.device)
    build_scoring(args, options)  # before a large file is read
    saved = read_embeddings(args.file, args.labels)
    facts = saved.facts
    scoring = build_scoring(args, options, facts)
    scores = scoring(saved.embeddings, facts, args.device)
    rows, width = saved.embeddings.shape
    return dict(
        file=args.file,
        model_hash=saved.model_hash,
        embeddings=rows,
        dimensions=width,
        classes=len(set(facts.labels.tolist())),
        search=scoring.description(facts),
        options=options,
        scores=as_percent(scores),
    )


def report(result: dict[str, Any], json_out: str | None) -> None:
    """Print a table, or JSON for ``'-'``; write JSON to any other ``json_out``."""
    # JSON has no infinity, such as a threshold that no pair passes.
    finite = {name: value if math.isfinite(value) else None for name, value in result['scores'].items()}
    text = json.dumps(result | dict(scores=finite), indent=2, allow_nan=False)
    if json_out == '-':
        print(text)
        return
    print('{embeddings} embeddings of {dimensions} dimensions, {classes} classes; percent'.format(**result))
    print(result['search'])
    print(table(result['scores']))
    if json_out:
        with write_atomically(json_out, 'w', encoding='utf-8') as file:
            file.write(text + '\n')


def show_progress() -> None:
    """Let the lines that long searches log, with the time left, appear on stderr."""
    logging.basicConfig(format='%(message)s', stream=sys.stderr)
    logging.getLogger('mmdml').setLevel(logging.INFO)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run."""
    args = parse_args(arguments)
    show_progress()
    try:
        result = evaluate_file(args)
    except _EXPECTED as error:
        if args.debug:
            raise
        sys.exit(f'eval_embeddings: {error.args[0] if isinstance(error, KeyError) else error}')
    report(result, args.json)


if __name__ == '__main__':
    main()
