"""What the tools do before the Runner takes over."""

import argparse
import os
import os.path as osp
import time
import traceback
from datetime import timedelta
from typing import Any

import torch
from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError

from mmdml.cli.config_check import check_config, check_keys
from mmdml.cli.config_options import ConfigOptions
from mmdml.cli.config_paths import watch_config

# Seconds that a rank waits for another, where the config does not say. NCCL's own 600 are too few while rank 0 clusters
# or re-ranks a large test set by itself.
_TIMEOUT = 7200
# Seconds in which the threads of a process group come to rest.
_PARTING = 0.2


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that training and testing share."""
    parser.add_argument('--work-dir', help='where logs and checkpoints go; default: work_dirs/CONFIG_NAME')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        help='override settings, key=value pairs such as model.head.loss.beta=50; lists as key="[a,b]"',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='how processes were started'
    )
    parser.add_argument('--no-pin-memory', action='store_true', help='do not pin memory in the loaders')
    parser.add_argument('--debug', action='store_true', help='show the traceback of every error')
    # torch.distributed.launch passes --local-rank or --local_rank.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def read_config(path: str, options: dict[str, Any]) -> Config:
    """Read a config, merge the options of the command line, and check its keys, types and plain values.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: names the path of what is wrong, and what is near to it.
    """
    cfg = _run_config(path)
    check_keys(cfg, options)
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError) as error:
        raise ValueError(f'--cfg-options {" ".join(options)}: {error.args[0]}') from error
    except AttributeError as error:
        # MMEngine goes into the items of a list for their own keys only.
        raise ValueError(
            f'--cfg-options {" ".join(options)}: an item of a list that is no dict cannot be set alone; give the whole '
            'list, KEY="[a,b]"'
        ) from error
    check_config(cfg)
    return cfg


def _run_config(path: str) -> Config:
    """Read a config file; an error of its code is named by file and line."""
    where = f'{path}, or a file that it inherits'
    try:
        return Config.fromfile(path)
    except UnicodeDecodeError as error:
        raise ValueError(f'{where}, is not UTF-8 ({error.reason}): save it as UTF-8') from error
    except SyntaxError as error:
        where = where if error.filename in (None, '<unknown>') else error.filename
        line = f', line {error.lineno}' if error.lineno else ''
        raise ValueError(f'{where}{line}: {error.msg}: {(error.text or "").strip()}'.rstrip(': ')) from error
    except Exception as error:
        # Below this function the code of config files is all that runs at the level of a module.
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == '<module>']
        if frames:
            where = f'{frames[-1].filename}, line {frames[-1].lineno}'
            raise ValueError(f'{where}: {type(error).__name__}: {error}') from error
        # What MMEngine refuses itself.
        if isinstance(error, KeyError | ValueError | ConfigParsingError):
            raise ValueError(f'{where}: {error.args[0] if error.args else error}') from error
        raise


def load_config(args: argparse.Namespace) -> Config:
    """Read the config, check its keys, apply the common flags, and start the process group if there is one.

    Raises:
        ValueError: for a key that nothing reads, or a config without a model.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config, args.cfg_options or {})
    if not cfg.get('model'):
        raise ValueError(
            f"{args.config} has no entry 'model': inherit one, e.g. _base_ = ['mmdml::_base_/models/r50.py']"
        )
    cfg.setdefault('default_hooks', {}).setdefault('console', dict(type='ConsoleHook'))
    watch_config(cfg)
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
