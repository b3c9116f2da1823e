"""Random state as a function of seed and epoch."""

import random

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop

from mmdml.dist import get_rank
from mmdml.registry import HOOKS
from mmdml.utils.seeding import Stream, derive_seed


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seed python, numpy and torch from (run seed, epoch, rank) before every epoch.

    MMEngine does not checkpoint random states, and validation draws from the global ones; seeded anew at every epoch,
    a resumed run equals an uninterrupted one. An iteration-based run, which may stop anywhere, is seeded before every
    iteration. Runs last, after whatever else happens before an epoch.

    A training dataset of mmdml without a seed of its own gets the run's: its augmentation is a function of (seed,
    epoch, image), whatever the number of workers.

    Config::

        default_hooks = dict(epoch_seed=dict(type='EpochSeedHook'))
    """

    priority = 'LOWEST'

    def before_train(self, runner) -> None:
        dataset = runner.train_dataloader.dataset
        if hasattr(dataset, 'set_seed') and dataset.seed is None:
            dataset.set_seed(runner.seed)

    def before_train_epoch(self, runner) -> None:
        self._seed(runner, runner.epoch)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            self._seed(runner, runner.iter)

    @staticmethod
    def _seed(runner, step: int) -> None:
        seed = derive_seed(Stream.GLOBAL, runner.seed, step, get_rank())
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
