"""Score a checkpoint, or the untrained model: ``python tools/test.py CONFIG [CHECKPOINT]``."""

import argparse

import mmdml  # noqa: F401  (first: it makes torchvision importable beside a CPU-only torch)
from mmdml.cli.console import ToolRunner, take_console
from mmdml.cli.embedding_output import write_embeddings
from mmdml.cli.errors import run_command
from mmdml.cli.launch import add_common_arguments, load_config, stop_processes
from mmdml.compat.weight_files import PARTIAL
from mmdml.engine.model_of import model_of
from mmdml.engine.runner import build_runner
from mmdml.utils.console import show
from mmdml.utils.files import prepare_output


def parse_args() -> argparse.Namespace:
    """Command-line flags."""
    parser = argparse.ArgumentParser(description='Score a checkpoint')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint file. Default: none; the untrained model is scored, with the pretrained weights of the config',
    )
    parser.add_argument('--out', help='write embeddings, labels and paths of the test images to this .npz file')
    parser.add_argument('--no-scores', action='store_true', help='write --out only; images then need no label')
    add_common_arguments(parser)
    args = parser.parse_args()
    if args.no_scores and not args.out:
        parser.error('--no-scores needs --out: without scores and a file nothing is left of the run')
    try:
        if args.out:
            prepare_output(args.out, ('.npz',))
    except (ValueError, OSError) as error:
        parser.error(f'--out: {error}')
    return args


def main() -> None:
    """Run."""
    args = parse_args()
    take_console()
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if (args.checkpoint or '').startswith(PARTIAL):
        raise ValueError(f'scoring needs all weights of the model, got {args.checkpoint}')
    runner = build_runner(cfg, ToolRunner)
    if args.checkpoint is None:
        model_of(runner).init_weights()
        show('no checkpoint was given: the untrained model is scored')
    if args.out:
        write_embeddings(runner, args.out, not args.no_scores)
    runner.test()
    stop_processes()


if __name__ == '__main__':
    run_command(main)
