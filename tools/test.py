"""Score a checkpoint, or the untrained model: ``python tools/test.py CONFIG [CHECKPOINT]``."""

import argparse

import numpy as np
from mmengine.dist import is_main_process
from mmengine.runner import Runner

import mmdml  # noqa: F401
from mmdml.cli.console import ToolRunner, take_console
from mmdml.cli.errors import run_command
from mmdml.cli.launch import add_common_arguments, load_config, stop_processes
from mmdml.compat.weight_files import PARTIAL
from mmdml.engine.model_of import model_of
from mmdml.utils.console import show


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
    add_common_arguments(parser)
    args = parser.parse_args()
    if args.out and not args.out.endswith('.npz'):
        parser.error(f'--out writes a .npz file, got {args.out}')
    return args


def write_embeddings(runner: Runner, path: str) -> None:
    """Unit embeddings ``(N, D)``, labels, roles and paths ``(N,)``, and groups and parts if there are any.

    In data-set order. All ranks call it, as they send what they hold; rank 0 writes.
    """
    from mmdml.evaluation.metrics import RetrievalMetric

    metric = next((part for part in runner.test_evaluator.metrics if isinstance(part, RetrievalMetric)), None)
    if metric is None:
        raise SystemExit('--out takes the embeddings from RetrievalMetric, but test_evaluator has none')
    results = metric.results_matrix()
    if not is_main_process():
        return
    columns = dict(labels=results.labels.numpy(), roles=results.roles.numpy(), paths=np.array(results.paths))
    if results.groups is not None:
        columns['groups'] = results.groups.numpy()
    sizes = (metric.dataset_meta or {}).get('part_sizes')
    if sizes is not None:
        columns['parts'] = np.repeat(np.arange(len(sizes)), sizes)
    np.savez(path, embeddings=results.embeddings.numpy(), **columns)
    print(f'wrote {len(results.labels)} embeddings to {path}')


def main() -> None:
    """Run."""
    args = parse_args()
    take_console()
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if (args.checkpoint or '').startswith(PARTIAL):
        raise ValueError(f'scoring needs all weights of the model, got {args.checkpoint}')
    runner = ToolRunner.from_cfg(cfg)
    if args.checkpoint is None:
        model_of(runner).init_weights()
        show('no checkpoint was given: the untrained model is scored')
    runner.test()
    if args.out:
        write_embeddings(runner, args.out)
    stop_processes()


if __name__ == '__main__':
    run_command(main)
