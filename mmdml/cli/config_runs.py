"""Runs of a config with the flags of MMEngine: what ``tools/train.py`` and ``tools/test.py`` call."""

import argparse
from collections.abc import Sequence

from mmengine.config import Config

from mmdml.apis.model_index import PACKAGED, model_index
from mmdml.apis.model_names import find_model
from mmdml.cli.config_command import is_a_name
from mmdml.cli.config_outputs import check_outputs
from mmdml.cli.console import ToolRunner, take_console
from mmdml.cli.embedding_output import write_embeddings
from mmdml.cli.launch import add_common_arguments, load_config, stop_processes
from mmdml.compat.weight_files import PARTIAL
from mmdml.engine.model_of import model_of
from mmdml.engine.runner import build_runner
from mmdml.utils.console import show
from mmdml.utils.files import prepare_output


def train_config(arguments: Sequence[str] | None = None, command: str | None = None) -> None:
    """Train the model of a config.

    Args:
        arguments: config, or its name in the model index, and flags. Default: those of this process.
        command: name in the help. Default: the file that runs.
    """
    args = _training_arguments(arguments, command)
    args.config = _config_of(args.config)
    take_console()
    cfg = load_config(args)
    _apply_flags(cfg, args)
    if args.amp:
        _require_cuda_for_amp()
    check_outputs(cfg)
    build_runner(cfg, ToolRunner).train()
    stop_processes()


def score_config(arguments: Sequence[str] | None = None, command: str | None = None) -> None:
    """Score a checkpoint, or the untrained model, on the test data of a config.

    Args:
        arguments: config, checkpoint and flags; a name of the model index stands for its config, and for its weights
            where it has some and no checkpoint follows it. Default: those of this process.
        command: name in the help. Default: the file that runs.
    """
    args = _test_arguments(arguments, command)
    if args.checkpoint is None and is_a_name(args.config):
        args.checkpoint = find_model(args.config).weights or None
    args.config = _config_of(args.config)
    take_console()
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if (args.checkpoint or '').startswith(PARTIAL):
        raise ValueError(f'scoring needs all weights of the model, got {args.checkpoint}')
    check_outputs(cfg, args.out)
    runner = build_runner(cfg, ToolRunner)
    if args.checkpoint is None:
        model_of(runner).init_weights()
        show('no checkpoint was given: the untrained model is scored')
    if args.out:
        write_embeddings(runner, args.out, not args.no_scores)
    runner.test()
    stop_processes()


def _config_of(name: str) -> str:
    """Return the config that a name of the model index stands for; a path stands for itself."""
    return str(PACKAGED / model_index()[name]['Config']) if is_a_name(name) else name


def _training_arguments(arguments: Sequence[str] | None, command: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=command, description='Train a model')
    parser.add_argument('config', help='config file, or a name of the model index')
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
    return parser.parse_args(arguments)


def _test_arguments(arguments: Sequence[str] | None, command: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=command, description='Score a checkpoint')
    parser.add_argument('config', help='config file, or a name of the model index')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint file. Default: that of the name; else none, and the untrained model is scored, with the '
        'pretrained weights of the config',
    )
    parser.add_argument('--out', help='write embeddings, labels and paths of the test images to this .npz file')
    parser.add_argument('--no-scores', action='store_true', help='write --out only; images then need no label')
    add_common_arguments(parser)
    args = parser.parse_args(arguments)
    if args.no_scores and not args.out:
        parser.error('--no-scores needs --out: without scores and a file nothing is left of the run')
    try:
        if args.out:
            prepare_output(args.out, ('.npz',))
    except (ValueError, OSError) as error:
        parser.error(f'--out: {error}')
    return args


def _apply_flags(cfg: Config, args: argparse.Namespace) -> None:
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


def _require_cuda_for_amp() -> None:
    """Refuse before any work: MMEngine's AmpOptimWrapper refuses the CPU by a bare assertion."""
    import torch

    if not torch.cuda.is_available():
        raise ValueError('--amp needs a CUDA device, and there is none here; leave the flag out to train in fp32')
