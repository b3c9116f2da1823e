"""What the tools do before the Runner takes over."""

import argparse
import difflib
import inspect
import os
import os.path as osp
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.runner import Runner

#: Keys that mean something to the Runner or to the tools; a config may hold variables of its own besides.
_KNOWN_KEYS = frozenset(inspect.signature(Runner.__init__).parameters) - {'self'} | {
    'find_unused_parameters',
    'sync_bn',
    'model_wrapper_cfg',
    'compile',
    'activation_checkpointing',
    'efficient_conv_bn_eval',
    'custom_imports',
    'gpu_ids',
}

# Seconds that a rank waits for another, where the config does not say. NCCL's own 600 are too few while rank 0 clusters
# or re-ranks a large test set by itself.
_TIMEOUT = 7200
# Seconds in which the threads of a process group come to rest.
_PARTING = 0.2


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that training and testing share."""
    parser.add_argument('--work-dir', help='where logs and checkpoints go; default: work_dirs/CONFIG_NAME')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings, key=value pairs such as model.head.loss.beta=50; lists as key="[a,b]"',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='how processes were started'
    )
    parser.add_argument('--no-pin-memory', action='store_true', help='do not pin memory in the loaders')
    # torch.distributed.launch passes --local-rank or --local_rank.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config, check its keys, apply the common flags, and start the process group if there is one.

    Raises:
        ValueError: for a key that nothing reads.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(args.config)
    check_keys(cfg, args.cfg_options or {})
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif not cfg.get('work_dir'):
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name)
        if not loader:
            continue
        if args.no_pin_memory:
            loader.pin_memory = False
    start_processes(cfg)
    return cfg


def check_keys(cfg: Config, options: dict[str, Any]) -> None:
    """Refuse top-level keys that would be silently ignored.

    A command-line option must name a key of the Runner. A key of the config that nearly spells a
    Runner key is taken for a typing error. Deeper keys are checked by the parts that they configure.

    Raises:
        ValueError: naming the key and its nearest known ones.
    """
    for key in {option.partition('.')[0] for option in options}:
        if key in cfg and key not in _KNOWN_KEYS:
            raise ValueError(
                f"--cfg-options: '{key}' is a variable of the config file, and its value is already where it is used. "
                f'Set it there, e.g. train_dataloader.batch_size instead of batch_size; '
                'tools/misc/print_config.py shows the places'
            )
        if key not in _KNOWN_KEYS:
            raise ValueError(f"--cfg-options: unknown config key '{key}'{_suggest(key, _KNOWN_KEYS)}")
    for key in cfg:
        if key not in _KNOWN_KEYS and difflib.get_close_matches(key, _KNOWN_KEYS, n=1, cutoff=0.87):
            raise ValueError(f"unknown config key '{key}'{_suggest(key, _KNOWN_KEYS)}")


def _suggest(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    return f'; did you mean {" or ".join(near)}?' if near else ''


def start_processes(cfg: Config) -> None:
    """Set the time limit of ranks; on a machine without CUDA start the group with gloo; with CUDA the Runner does it.

    MMEngine's own start selects a CUDA device and wraps the model with device ids, and fails on a CPU machine.
    """
    if cfg.launcher == 'none':
        return
    cfg.setdefault('env_cfg', {}).setdefault('dist_cfg', {}).setdefault('timeout', _TIMEOUT)
    if torch.cuda.is_available():
        return
    if cfg.launcher != 'pytorch':
        raise ValueError(
            f"on a machine without CUDA, only --launcher pytorch can start processes, got '{cfg.launcher}'"
        )
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(backend='gloo', timeout=timedelta(seconds=cfg.env_cfg.dist_cfg.timeout))
    cfg.setdefault(
        'model_wrapper_cfg',
        dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        ),
    )


def stop_processes() -> None:
    """Leave the process group, if there is one, when the work is done.

    After a collective the threads of gloo still have to let its tensors go, for which they need the interpreter. One
    that ends in this moment aborts the process, with all work done and an exit status that says that it failed.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        time.sleep(_PARTING)
        torch.distributed.destroy_process_group()
