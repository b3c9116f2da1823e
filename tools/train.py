"""Train a model: ``python tools/train.py configs/iaa/iaa_ms_conv4_omniglot.py``."""

import argparse

import mmdml  # noqa: F401  (first: it makes torchvision importable beside a CPU-only torch)
from mmdml.cli.console import ToolRunner, take_console
from mmdml.cli.errors import run_command
from mmdml.cli.launch import add_common_arguments, load_config, stop_processes
from mmdml.engine.runner import build_runner


def parse_args() -> argparse.Namespace:
    """Command-line flags."""
    parser = argparse.ArgumentParser(description='Train a model')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from a checkpoint; without a path, or with "auto", from the latest one in the work dir',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision (needs CUDA)')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    parser.add_argument('--score-first', action='store_true', help='score the model before the first update, too')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate by batch size / base_batch_size'
    )
    parser.add_argument('--no-persistent-workers', action='store_true', help='start loader workers anew every epoch')
    add_common_arguments(parser)
    return parser.parse_args()


def apply_flags(cfg, args: argparse.Namespace) -> None:
    """Training flags -> config."""
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
        if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
            raise ValueError(f'--amp replaces OptimWrapper, but the config uses {kind}')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.resume == 'auto':
        cfg.resume, cfg.load_from = True, None
    elif args.resume:
        cfg.resume, cfg.load_from = True, args.resume
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise ValueError('--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config')
        cfg.auto_scale_lr.enable = True
    if args.score_first:
        if not cfg.get('val_dataloader'):
            raise ValueError('--score-first scores on val_dataloader, but the config has none')
        cfg.default_hooks.console.score_first = True
    if args.no_persistent_workers:
        cfg.train_dataloader.persistent_workers = False


def main() -> None:
    """Run."""
    args = parse_args()
    take_console()
    cfg = load_config(args)
    apply_flags(cfg, args)
    if args.amp:
        require_cuda_for_amp()
    build_runner(cfg, ToolRunner).train()
    stop_processes()


def require_cuda_for_amp() -> None:
    """Say it before any work: MMEngine's AmpOptimWrapper refuses the CPU by a bare assertion."""
    import torch

    if not torch.cuda.is_available():
        raise ValueError('--amp needs a CUDA device, and there is none here; leave the flag out to train in fp32')


if __name__ == '__main__':
    run_command(main)
