"""Embeddings of the training set for its subscribers."""

from itertools import chain
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from torch.utils.data import Dataset

from mmdml.dist import gather_detached, get_world_size
from mmdml.engine.bank import EmbeddingBank
from mmdml.engine.model_of import model_of, progress_of
from mmdml.engine.sweep import num_classes_of, sweep
from mmdml.registry import HOOKS
from mmdml.structures import Embeddings, EmbeddingSubscriber, Progress, Rows
from mmdml.utils.dataset_configs import leaf_datasets
from mmdml.utils.seeding import Stream, derive_seed


@HOOKS.register_module()
class SweepHook(Hook):
    """Serve the embeddings of the training set to their subscribers, which are hooks and modules of the model.

    One pass serves all subscribers of one moment that need the same transform. A subscriber that reads the bank
    costs no pass; the bank is kept only if there is one.

    Args:
        batch_size: images of a sweep's step. Default: that of the test loader, else of the training loader.
        num_workers: loader processes of a sweep. Default: as the training loader.

    Raises:
        ValueError: if the training dataset cannot be swept (it needs ``labels`` and ``with_pipeline``).

    Config::

        default_hooks = dict(sweep=dict(type='SweepHook', batch_size=256))
    """

    priority = 'NORMAL'

    def __init__(self, batch_size: int | None = None, num_workers: int | None = None) -> None:
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.bank: EmbeddingBank | None = None
        self._saved_bank: dict[str, torch.Tensor] | None = None
        self._subscribers: list[EmbeddingSubscriber] = []
        self._served = -1
        self._rows_are_shared = True

    def before_train(self, runner) -> None:
        model = model_of(runner)
        self._subscribers = [
            part for part in chain(model.modules(), runner.hooks) if isinstance(part, EmbeddingSubscriber)
        ]
        self._served = -1
        self._rows_are_shared = get_world_size() == 1 or model.head.gather
        if not self._subscribers:
            return
        dataset = runner.train_dataloader.dataset
        if not (hasattr(dataset, 'labels') and hasattr(dataset, 'with_pipeline')):
            names = [type(part).__name__ for part in self._subscribers]
            raise ValueError(
                f'{names} need the embeddings of the training set, but {type(dataset).__name__} is not an mmdml data '
                "set (it has no 'labels' or no 'with_pipeline')"
            )
        for part in self._subscribers:
            if hasattr(part, 'check_schedule'):
                part.check_schedule(progress_of(runner))
        if any(part.embedding_source == 'bank' for part in self._subscribers):
            device = next(model.parameters()).device
            if self._saved_bank is not None:
                self.bank = EmbeddingBank.from_state(self._saved_bank, device)
                self._saved_bank = None
            else:
                self.bank = EmbeddingBank(len(dataset), model.neck.embed_dim, device)

    def before_train_epoch(self, runner) -> None:
        self._serve(runner)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self._serve(runner)

    def receive_rows(self, rows: Rows) -> None:
        """Keep the rows of a step, if there is a bank."""
        if self.bank is not None:
            self.bank.update(rows if self._rows_are_shared else gather_detached(rows))

    def _serve(self, runner) -> None:
        progress = progress_of(runner)
        # An epoch's first iteration comes by twice: before the loader starts, and before the step.
        if progress.iter == self._served or not self._subscribers:
            return
        self._served = progress.iter
        due = [part for part in self._subscribers if part.embeddings_due(progress)]
        for part in due:
            if part.embedding_source == 'bank':
                part.receive_embeddings(self._from_bank(runner), progress)
        swept = [part for part in due if part.embedding_source == 'sweep']
        needed = {part.sweep_transform for part in swept} - {None}
        fallback = 'test' if 'test' in needed else 'train'
        for transform in sorted({part.sweep_transform or fallback for part in swept}):
            features = any(getattr(part, 'needs_features', False) for part in swept)
            embeddings = self._sweep(runner, transform, progress, features)
            for part in swept:
                if (part.sweep_transform or fallback) == transform:
                    part.receive_embeddings(embeddings, progress)

    def _from_bank(self, runner) -> Embeddings:
        dataset = runner.train_dataloader.dataset
        filled = self.bank.filled.nonzero().squeeze(1)
        labels = torch.tensor(dataset.labels, device=filled.device)
        return Embeddings(self.bank.rows[filled], labels[filled], filled, num_classes_of(dataset))

    def _sweep(self, runner, transform: str, progress: Progress, with_features: bool) -> Embeddings:
        loader = runner.train_dataloader
        pipeline = None if transform == 'train' else _test_pipeline(runner.cfg, loader.dataset)
        dataset = loader.dataset.with_pipeline(pipeline)
        # A stream of its own: an epoch of the training loader must not repeat these crops.
        dataset.set_seed(derive_seed(Stream.SWEEP, progress.seed, progress.iter))
        embeddings = sweep(
            model_of(runner),
            dataset,
            self.batch_size or _test_batch_size(runner.cfg) or loader.batch_size,
            loader.num_workers if self.num_workers is None else self.num_workers,
            with_features=with_features,
            collate_fn=loader.collate_fn,
        )
        print_log(f'Swept {len(dataset)} training images ({transform} transform)', logger='current')
        return embeddings

    def run_state(self) -> dict[str, Any]:
        """Return the bank, if one is kept."""
        return {} if self.bank is None else {'bank': self.bank.state_dict()}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Restore the bank; it is moved to its device when training starts."""
        self._saved_bank = state.get('bank')


def _test_loader_cfg(cfg) -> dict[str, Any]:
    return cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}


def _test_pipeline(cfg, trained: Dataset) -> list[dict[str, Any]]:
    # All parts of a concatenation are read alike.
    pipeline = next(leaf_datasets(_test_loader_cfg(cfg).get('dataset', {}))).get('pipeline')
    parts = getattr(trained, 'datasets', [trained])
    if pipeline is None and not any(getattr(part, 'has_images', True) for part in parts):
        return []  # saved features need no transform
    if pipeline is None:
        raise ValueError(
            'a sweep with the test transform takes the pipeline of test_dataloader.dataset or val_dataloader.dataset, '
            'but the config has none'
        )
    return pipeline


def _test_batch_size(cfg) -> int | None:
    return _test_loader_cfg(cfg).get('batch_size')
