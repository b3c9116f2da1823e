"""The Runner of mmdml, for tools and notebooks alike."""

import copy
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmdml.compat.config_text import lay_out_texts_once
from mmdml.dist import on_main_process
from mmdml.engine.checkpoints import CheckpointFolder, checkpoint_folder_of
from mmdml.engine.run_lock import run_lock
from mmdml.registry import METRICS, RUNNERS
from mmdml.utils.console import show
from mmdml.utils.files import remove_leftovers
from mmdml.utils.near_names import did_you_mean
from mmdml.utils.processes import LOADER_TIMEOUT, end_with_parent, stalled_workers_end, worker_options

# Optimizers of torch that have a fused form.
_FUSED = ('Adam', 'AdamW', 'SGD', 'Adagrad')
# What its register_default_hooks takes None for.
_HOOKS_OF_MMENGINE = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')


def build_runner(cfg: Config, kind: 'type[MetricLearningRunner] | None' = None) -> 'MetricLearningRunner':
    """Build the Runner of a config: ``build_runner(cfg).train()``, or ``.test()``.

    A rank of ``torchrun`` ends from here on when its launcher does.

    Args:
        cfg: whole config with a ``work_dir``, e.g. of ``Config.fromfile``.
        kind: class of the Runner. Default: :class:`MetricLearningRunner`.
    """
    if cfg.get('launcher', 'none') == 'pytorch' and 'TORCHELASTIC_RUN_ID' in os.environ:
        end_with_parent(os.getppid())
    return (kind or MetricLearningRunner).from_cfg(cfg)


@RUNNERS.register_module()
class MetricLearningRunner(Runner):
    """MMEngine's Runner, with one run in a work dir: it neither overwrites another one nor pretends to resume.

    - Training locks the work dir; a second run there is refused.
    - A new run is refused where checkpoints of an earlier one are.
    - ``resume=True`` goes on from the newest whole checkpoint of the work dir, and is refused where there is none.
      A checkpoint that is named (``load_from``) is refused where the work dir holds other ones that would be
      overwritten.
    - Loader workers end when their run does, and one that hangs ends the run.
    - On CUDA, loaders pin their memory and optimizers that can are fused, unless the config says otherwise: the one
      changes no figure, the other none beyond rounding. Nothing changes on other devices.
    - The config is written to the work dir when training starts, not by a test.

    What must be the same for a run to be resumed is checked by :class:`~mmdml.engine.hooks.RunStateHook`.

    Raises:
        FileExistsError: at ``train()``, if checkpoints would be overwritten.
        FileNotFoundError: at ``train()``, if there is nothing to resume.
        RuntimeError: at ``train()``, if another run is in the work dir.

    Config::

        runner_type = 'MetricLearningRunner'  # what tools/train.py and build_runner use in any case
    """

    _trains = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        lay_out_texts_once()
        super().__init__(*args, **kwargs)

    def train(self) -> nn.Module:
        """Train, and return the model."""
        with run_lock(self.work_dir), stalled_workers_end(_timeout_of(self._train_dataloader)):
            self._load_from = on_main_process(self._find_start)
            self._trains = True
            self.dump_config()
            return super().train()

    def val(self) -> dict[str, float]:
        """Evaluate on the validation data."""
        with stalled_workers_end(_timeout_of(self._val_dataloader), 'val_dataloader'):
            return super().val()

    def test(self) -> dict[str, float]:
        """Evaluate on the test data."""
        with stalled_workers_end(_timeout_of(self._test_dataloader), 'test_dataloader'):
            return super().test()

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Restore weights and state of a run from a checkpoint."""
        self._resume = True  # hooks restore their state by this mark
        super().resume(filename, *args, **kwargs)

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        """Register the default hooks; None switches off any of them, not only those that MMEngine has.

        What checks a run, and changes none of its figures, is registered here and not in the configs: the hash of a
        config, by which measured rows are known, stays.
        """
        hooks = dict(feature_width=dict(type='mmdml.FeatureWidthHook')) | (hooks or {})
        off = [name for name, hook in hooks.items() if hook is None and name not in _HOOKS_OF_MMENGINE]
        super().register_default_hooks({name: hook for name, hook in hooks.items() if name not in off})

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        """Build an evaluator; MMEngine takes a single metric with an argument ``metrics`` for one."""
        if isinstance(evaluator, dict) and 'metrics' in evaluator:
            kind = evaluator.get('type', 'Evaluator')
            kind = METRICS.get(kind) if isinstance(kind, str) else kind
            if isinstance(kind, type) and issubclass(kind, BaseMetric):
                evaluator = [evaluator]
        return super().build_evaluator(evaluator)

    def dump_config(self) -> None:
        """Write the config to the work dir if this run trains in it."""
        if self._trains:
            super().dump_config()

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build the optimizer, fused into one kernel where parameters lie on CUDA and its kind can be."""
        _warn_of_keys(self, optim_wrapper)
        on_cuda = any(parameter.is_cuda for parameter in self.model.parameters())
        return super().build_optim_wrapper(with_fused_optimizer(optim_wrapper) if on_cuda else optim_wrapper)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict[str, Any], seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a loader whose workers neither outlive the run nor hang it (``timeout``, 600 s by default).

        On CUDA its memory is pinned unless ``pin_memory`` says otherwise, so that batches are copied meanwhile.
        """
        if isinstance(dataloader, DataLoader):
            return dataloader
        cfg = copy.deepcopy(dataloader)
        options = worker_options(cfg.get('num_workers', 0))
        if options:
            cfg.setdefault('timeout', options['timeout'])
        cfg.setdefault('pin_memory', torch.cuda.is_available())
        loader = Runner.build_dataloader(cfg, seed, diff_rank_seed)
        if options:
            loader.worker_init_fn = worker_options(loader.num_workers, loader.worker_init_fn)['worker_init_fn']
        return loader

    def _find_start(self) -> str | None:
        """Return the checkpoint to resume or to load from, None for none; on rank 0."""
        removed = remove_leftovers(self.work_dir)
        if removed:
            self.logger.warning(f'Removed what was being written when an earlier run was killed: {removed}')
        folder = checkpoint_folder_of(self)
        if not self._resume:
            self._refuse_to_overwrite(folder.of_any_run())
            return self._load_from
        if self._load_from is None:
            return self._newest(folder)
        named = Path(self._load_from)
        if named.parent.resolve() == folder.folder.resolve():
            newest, _ = folder.newest_whole()
            numbers = {file.name: number for number, file in folder.numbered().items()}
            later = newest is not None and numbers[newest.name] > numbers.get(named.name, numbers[newest.name])
            self._refuse_to_overwrite([newest] if later else [])
        else:
            self._refuse_to_overwrite(folder.of_any_run())
        return self._load_from

    def _newest(self, folder: CheckpointFolder) -> str:
        newest, skipped = folder.newest_whole()
        if skipped:
            self.logger.warning(f'Skipped while looking for the checkpoint to resume: {"; ".join(skipped)}')
        if newest is None:
            raise FileNotFoundError(
                f'there is nothing to resume: {folder.folder.resolve()} holds no whole checkpoint '
                f'{folder.template.format("N")}. Start without --resume, or name a checkpoint: --resume PATH'
            )
        show(f'Resuming from {newest}')
        return str(newest)

    def _refuse_to_overwrite(self, checkpoints: list[Path]) -> None:
        if checkpoints:
            resumed = f'than {self._load_from} ' if self._resume else ''
            raise FileExistsError(
                f'{self.work_dir} holds other checkpoints {resumed}(the newest is {checkpoints[-1].name}), which this '
                'run would overwrite or leave beside its own. Go on from the newest with --resume, choose another '
                '--work-dir, or remove them'
            )


def with_fused_optimizer(optim_wrapper: Any) -> Any:
    """Return a config of an optimizer wrapper whose optimizer is fused, if it can be and the config does not say."""
    optimizer = optim_wrapper.get('optimizer') if isinstance(optim_wrapper, dict) else None
    if not isinstance(optimizer, dict) or optimizer.get('type') not in _FUSED:
        return optim_wrapper
    if {'fused', 'foreach', 'differentiable'} & optimizer.keys():
        return optim_wrapper
    return {**optim_wrapper, 'optimizer': {**optimizer, 'fused': True}}


def _warn_of_keys(runner: Runner, optim_wrapper: Any) -> None:
    """Log a warning for each custom key of the optimizer that names nothing in the model."""
    paramwise = optim_wrapper.get('paramwise_cfg') if isinstance(optim_wrapper, dict) else None
    names = [name for name, _ in runner.model.named_modules()] + [name for name, _ in runner.model.named_parameters()]
    for key in (paramwise or {}).get('custom_keys') or {}:
        if not any(key in name for name in names):
            near = did_you_mean(key, {part for name in names for part in (name, *name.split('.'))})
            runner.logger.warning(
                f'paramwise_cfg.custom_keys: {key!r} is in no name of the model, and does nothing{near}'
            )


def _timeout_of(loader: DataLoader | dict[str, Any] | None) -> float:
    return (loader.get('timeout') if isinstance(loader, dict) else None) or LOADER_TIMEOUT
