"""The parts of a recipe, built before its pictures are read, so that a wrong setting is named at once."""

import copy
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from torch.utils.data import DataLoader

from mmdml.cli.config_check import check_config
from mmdml.cli.config_paths import settings_of, watch_config
from mmdml.cli.console import ToolRunner
from mmdml.cli.frozen_training import facts_of, is_frozen
from mmdml.cli.recipe_file import require_effect
from mmdml.datasets.reading import build_transforms
from mmdml.engine.hooks.step_context_hook import require_batches_of_the_sampler
from mmdml.functional.embedding_files import write_embeddings
from mmdml.registry import DATASETS, HOOKS, LOG_PROCESSORS, MODELS, PARAM_SCHEDULERS
from mmdml.utils.seeding import Stream, torch_seeded


def require_recipe(recipe: str | Path, values: Mapping[str, Any], settings: Mapping[str, str]) -> None:
    """Build what a recipe trains and scores with; no picture is opened.

    Args:
        recipe: see :func:`~mmdml.cli.recipe_file.require_effect`.
        values: see there; of a recipe that trains on features the file need not be there.
        settings: see there.

    Raises:
        ValueError: a value has no effect, or a part refuses a setting; other errors where a part of torch does.
    """
    cfg = require_effect(recipe, values, settings)
    if not is_frozen(cfg):
        _build_parts(cfg)
        return
    with tempfile.TemporaryDirectory() as folder:
        # The data sets get a file of the same rows, whose features are nothing.
        cfg = require_effect(recipe, {**values, 'features': str(Path(folder, 'features.npz'))}, {})
        dataset = DATASETS.build(dict(**cfg.data, split='test', test_mode=True))
        write_embeddings(cfg.features, np.zeros((len(dataset), 1), dtype=np.float32), facts_of(dataset))
        _build_parts(cfg)


def _build_parts(cfg: Config) -> None:
    watch_config(cfg)
    with DefaultScope.overwrite_default_scope('mmdml'), torch_seeded(Stream.UNTRAINED_WEIGHTS, cfg.seed, 0):
        if not isinstance(cfg.test_pipeline, list):
            raise ValueError(f'test_pipeline must be a list of transforms, got {cfg.test_pipeline!r}')
        # As a part of the config that the model gets, where a wrong key is named.
        check_config(dict(test_dataloader=dict(dataset=dict(pipeline=cfg.test_pipeline))))
        build_transforms(cfg.test_pipeline)
        model = MODELS.build(cfg.model.to_dict())
        if is_frozen(cfg):
            MODELS.build(dict(cfg.embedder.to_dict(), head=None))
        with settings_of(cfg.optim_wrapper):
            optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        loader = ToolRunner.build_dataloader(cfg.train_dataloader, seed=cfg.seed)
        require_batches_of_the_sampler(loader)
        for schedule in _in_a_list(cfg.get('param_scheduler')):
            _build_schedule(schedule, cfg.train_cfg, optim_wrapper, loader)
        # Hooks that draw take the visualizer of the run, which is built before them.
        Visualizer.get_instance('recipe')
        for hook in [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]:
            _build_hook(hook)
        LOG_PROCESSORS.build(dict(type='LogProcessor') | dict(cfg.get('log_processor') or {}))
        if cfg.val_classes:
            ToolRunner.build_dataloader(cfg.val_dataloader, seed=cfg.seed)
            if 'metrics' not in cfg.val_evaluator:
                Evaluator(copy.deepcopy(cfg.val_evaluator))


def _build_schedule(settings: Any, loop: Any, optim_wrapper: OptimWrapper, loader: DataLoader) -> None:
    """Build a schedule as the Runner does, which lets it end with the training."""
    epochs = loop.get('max_epochs', 0)
    end = epochs if settings.get('by_epoch', True) else loop.get('max_iters', epochs * len(loader))
    given = dict(optimizer=optim_wrapper, epoch_length=len(loader), **(dict(end=end) if end else {}))
    PARAM_SCHEDULERS.build(copy.deepcopy(settings), default_args=given)


def _build_hook(settings: Any) -> None:
    if settings is not None:
        HOOKS.build({key: value for key, value in settings.items() if key != 'priority'})


def _in_a_list(settings: Any) -> Iterator[Any]:
    """Return the settings of schedules, one alone or several."""
    return iter(settings if isinstance(settings, list | tuple) else [settings] if settings else [])
