"""Checkpoints that are whole or not there, and an old one that goes only when the new one is safe."""

import os
import os.path as osp
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import IterBasedTrainLoop

from mmdml.compat.safe_checkpoint import UnsafeCheckpointError, safe_torch_load
from mmdml.dist import is_main_process, on_main_process
from mmdml.engine.checkpoints import CheckpointFolder
from mmdml.engine.sharded_state import OptimizerState, check_sharding, take_own_part, whole_on_saving
from mmdml.registry import HOOKS
from mmdml.utils.files import replaced_when_whole
from mmdml.utils.interrupts import interrupts_wait
from mmdml.utils.near_names import did_you_mean

# What MMEngine's hook keeps in the message hub, and trusts when it comes back in a checkpoint.
_PATHS_OF_OTHERS = ('last_ckpt', 'best_ckpt', 'best_score', 'keep_ckpt_ids')


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """Save checkpoints in the work dir so that a kill or a full disk at any moment costs one interval at most.

    Order of a save: write beside, flush to the disk, rename, change ``last_checkpoint``, remove what is too old. The
    best checkpoint is replaced in the same order. Only files of the work dir that this run has written, by their
    names, are ever removed: a path that comes back in a checkpoint is not trusted.

    A checkpoint is saved before the evaluation of its epoch, which is repeated when a run resumes from it
    (:class:`~mmdml.engine.hooks.ResumedEvaluationHook`); that of a run which an evaluation has ended comes after it. A
    best checkpoint holds the weights alone: it is for testing and fine-tuning, not for resuming.

    Args:
        interval: epochs, or iterations without ``by_epoch``, between two checkpoints.
        by_epoch: count epochs.
        max_keep_ckpts: how many to keep; -1 for all.
        save_last: save at the end of training, whatever the interval, also where it ends early.
        save_best: metric, or list of metrics, whose best value so far decides on a best checkpoint; 'auto' for the
            first metric. None for no best checkpoint.
        rule: 'greater' or 'less' is better; a list for a list of metrics. None guesses from the metric's name.
        save_begin: epoch or iteration of the first checkpoint.
        filename_tmpl: name with ``{}`` for the number. Default: ``epoch_{}.pth`` or ``iter_{}.pth``.

    Raises:
        ValueError: for a ``filename_tmpl`` that is no name of a ``.pth`` file with one ``{}``; before training, for
            checkpoints inside an epoch of a run by epochs, and for epochs in a run that has none.
        KeyError: if an evaluation does not give the metric of ``save_best``.
        TypeError: at the first checkpoint, if it could not be loaded as data, and so not resumed.

    Config::

        default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1))
    """

    def __init__(
        self,
        interval: int = 1,
        by_epoch: bool = True,
        max_keep_ckpts: int = -1,
        save_last: bool = True,
        save_best: str | Sequence[str] | None = None,
        rule: str | Sequence[str] | None = None,
        save_begin: int = 0,
        filename_tmpl: str | None = None,
    ) -> None:
        super().__init__(
            interval=interval,
            by_epoch=by_epoch,
            max_keep_ckpts=max_keep_ckpts,
            save_last=save_last,
            save_best=save_best,
            rule=rule,
            save_begin=save_begin,
            filename_tmpl=filename_tmpl,
        )
        name = self.filename_tmpl
        if name.count('{}') != 1 or osp.basename(name) != name or not name.endswith('.pth') or name[0] in '.{':
            raise ValueError(f"filename_tmpl must be the name of a .pth file with one '{{}}' inside, got {name!r}")
        self._proven = False
        self._whole_optimizer_state: OptimizerState = {}
        self._kept: list[int] = []
        self._best: dict[str, dict[str, Any]] = {}

    def before_train(self, runner) -> None:
        check_sharding(runner)
        self._check_place(runner)
        self.out_dir = runner.work_dir
        for key in [key for key in runner.message_hub.runtime_info if key.startswith(_PATHS_OF_OTHERS)]:
            runner.message_hub.pop_info(key)
        self._remove_old()
        if self._kept:
            self._announce(runner, 'last_ckpt', self.filename_tmpl.format(self._kept[-1]))
        for best in self._best.values():
            self._announce(runner, 'best_ckpt', best['file'])

    def _check_place(self, runner) -> None:
        """Refuse checkpoints that a run could not go on from, or that it would not write before its end."""
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            if self.by_epoch and self.interval > 0:
                raise ValueError(
                    'CheckpointHook counts epochs, which an IterBasedTrainLoop has not: it would write nothing before '
                    'the end. Set default_hooks.checkpoint.by_epoch=False and its interval in updates'
                )
            return
        length = len(runner.train_dataloader)
        if not self.by_epoch and 0 < self.interval < runner.max_iters and self.interval % length:
            raise ValueError(
                f'a run by epochs goes on from whole epochs only, of {length} updates, but CheckpointHook has '
                f'interval={self.interval} updates: set by_epoch=True, a multiple, or an IterBasedTrainLoop'
            )
        if runner.iter % length:
            raise ValueError(
                f'the checkpoint was written after {runner.iter:,} updates, inside an epoch of {length}: a run by '
                'epochs goes on from whole epochs only'
            )

    def after_train(self, runner) -> None:
        step = runner.epoch if self.by_epoch else runner.iter
        # A run may end before its time, as by EarlyStoppingHook.
        if self.save_last and self.interval > 0 and step and self._kept[-1:] != [step]:
            self._save_numbered(runner, step, dict(epoch=runner.epoch, iter=runner.iter))

    def _save_checkpoint(self, runner) -> None:
        step = runner.epoch + 1 if self.by_epoch else runner.iter + 1
        place = dict(epoch=step, iter=runner.iter) if self.by_epoch else dict(epoch=runner.epoch, iter=step)
        self._save_numbered(runner, step, place)

    def _save_numbered(self, runner, step: int, place: dict[str, int]) -> None:
        name = self.filename_tmpl.format(step)
        self._kept = sorted({*self._kept, step})
        self._write(runner, name, place, resumable=True)
        if is_main_process():
            CheckpointFolder(self.out_dir).point_to(name)
        self._announce(runner, 'last_ckpt', name)
        self._remove_old()

    def _save_best_checkpoint(self, runner, metrics: dict[str, float]) -> None:
        # An untrained model is no candidate, and without a training there is nothing to save.
        if not self.save_best or self.out_dir is None or not runner.iter:
            return
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        place = dict(epoch=runner.epoch, iter=runner.iter)
        number = self.filename_tmpl.format(runner.epoch if self.by_epoch else runner.iter)
        for key in self.key_indicators:
            if key not in metrics:
                raise KeyError(
                    f'save_best={key!r} is none of the metrics of this evaluation: {sorted(metrics)}'
                    f'{did_you_mean(key, metrics)}'
                )
            score, before = float(metrics[key]), self._best.get(key)
            if before is not None and not self.is_better_than[key](score, before['score']) or score != score:
                continue
            name = f'best_{key}_{number}'.replace('/', '_')
            self._best[key] = dict(score=score, file=name)
            self._write(runner, name, place, resumable=False)
            self._announce(runner, 'best_ckpt', name)
            if before is not None and before['file'] != name:
                self._remove(before['file'])
            runner.logger.info(f'Best {key} so far, {score:0.4f}: {name}')

    def _write(self, runner, name: str, place: dict[str, int], resumable: bool) -> None:
        """Save on rank 0; the others wait, and end with it if it fails."""

        def save() -> None:
            try:
                # MMEngine takes an interrupt while it copies its message hub for a value that cannot be copied.
                with interrupts_wait(), replaced_when_whole(osp.join(self.out_dir, name)) as beside:
                    runner.save_checkpoint(
                        str(beside.parent),
                        beside.name,
                        save_optimizer=resumable,
                        save_param_scheduler=resumable and runner.param_schedulers is not None,
                        meta=place,
                        by_epoch=self.by_epoch,
                    )
                    if resumable and not self._proven:
                        self._prove(beside)
            except OSError as error:
                whole, _ = CheckpointFolder(self.out_dir, self.filename_tmpl).newest_whole()
                kept = 'There is no whole checkpoint yet; make room, and start anew'
                if whole:
                    kept = f'The newest whole checkpoint is {whole.name}; make room, and go on with --resume'
                raise OSError(
                    f'{osp.join(self.out_dir, name)} could not be written: {error.strerror or error}. {kept}'
                ) from error

        with whole_on_saving(runner) as self._whole_optimizer_state:
            on_main_process(save)
        self._whole_optimizer_state = {}

    def before_save_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        for index, entries in self._whole_optimizer_state.items():
            if entries and 'optimizer' in checkpoint:
                # A new dict: that of the optimizer goes on with this rank's part.
                state = checkpoint['optimizer']['state']
                state[index] = {**state[index], **entries}

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        if runner._resume and 'optimizer' in checkpoint:
            take_own_part(runner, checkpoint['optimizer'])

    def _prove(self, path: Path) -> None:
        """Refuse to go on if the first checkpoint of a run could not be loaded to resume it."""
        try:
            safe_torch_load(path, map_location='cpu')
        except UnsafeCheckpointError as error:
            raise TypeError(
                'the checkpoints of this run could not be loaded again: the state of a hook, schedule, optimizer or '
                f'model part holds something other than tensors and plain values. {error}'
            ) from error
        self._proven = True

    def _announce(self, runner, key: str, name: str) -> None:
        path = osp.join(self.out_dir, name)
        if osp.isfile(path):
            runner.message_hub.update_info(key, path)

    def _remove_old(self) -> None:
        if self.max_keep_ckpts > 0:
            for step in self._kept[: -self.max_keep_ckpts]:
                self._remove(self.filename_tmpl.format(step))
            self._kept = self._kept[-self.max_keep_ckpts :]

    def _remove(self, name: str) -> None:
        path = osp.join(self.out_dir, name)
        if is_main_process() and osp.isfile(path):
            os.remove(path)

    def run_state(self) -> dict[str, Any]:
        """Numbers of the checkpoints that are kept, and score and file name of the best ones."""
        return {'kept': list(self._kept), 'best': {key: dict(best) for key, best in self._best.items()}}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`run_state` returned; the names are those of files of a run, or refused."""
        files = [best['file'] for best in state['best'].values()]
        odd = [name for name in files if not (name.startswith('best_') and osp.basename(name) == name)]
        odd += [step for step in state['kept'] if not isinstance(step, int)]
        if odd:
            raise ValueError(f'the checkpoint names {odd} as files of its run, which no run of mmdml writes')
        self._kept = list(state['kept'])
        self._best = {key: dict(best) for key, best in state['best'].items()}
