"""Score a checkpoint: ``python tools/test.py CONFIG CHECKPOINT``."""

import argparse

import mmdml  # noqa: F401  (first: it makes torchvision importable beside a CPU-only torch)
from mmdml.cli.embedding_output import write_embeddings
from mmdml.cli.launch import add_common_arguments, load_config, stop_processes
from mmdml.engine.runner import build_runner
from mmdml.utils.files import prepare_output


def parse_args() -> argparse.Namespace:
    """Command-line flags."""
    parser = argparse.ArgumentParser(description='Score a checkpoint')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
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
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    runner = build_runner(cfg)
    if args.out:
        write_embeddings(runner, args.out, not args.no_scores)
    runner.test()
    stop_processes()


if __name__ == '__main__':
    main()
