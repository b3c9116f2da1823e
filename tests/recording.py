"""A hook that subprocess tests load through ``custom_imports`` to look into a run."""

import os.path as osp

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mmdml.registry import HOOKS


@HOOKS.register_module()
class RecordHook(Hook):
    """Write what each rank drew, estimated and learned to ``rank_R.pth`` in the work dir."""

    def before_train(self, runner) -> None:
        self.steps = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        indices = [sample.sample_idx for sample in data_batch['data_samples']]
        self.steps.append(dict(indices=indices, loss=float(outputs['loss'])))

    def after_train(self, runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        record = dict(
            steps=self.steps,
            state={name: source.estimator.run_state() for name, source in model.head.sources.items()},
            weights=model.state_dict(),
        )
        torch.save(record, osp.join(runner.work_dir, f'rank_{get_rank()}.pth'))
