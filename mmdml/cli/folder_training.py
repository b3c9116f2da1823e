"""From a folder of pictures to a model folder: a recipe, a run, a card."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from mmengine.config import Config

from mmdml.apis.model_folder import copy_licenses, license_texts
from mmdml.apis.model_names import DEFAULT, find_model
from mmdml.apis.model_settings import plain_settings
from mmdml.apis.named_model import NamedModel
from mmdml.cli.config_paths import watch_config
from mmdml.cli.console import ToolRunner, take_console
from mmdml.cli.frozen_training import is_frozen, make_features, score_features
from mmdml.cli.launch import read_config
from mmdml.cli.misplaced_models import refuse_models_as_pictures
from mmdml.cli.own_data import (
    OwnData,
    folder_of_pictures,
    held_out_classes,
    largest_trained_class,
    pictures_in_a_batch,
    read_own_data,
    require_readable,
    require_trainable,
)
from mmdml.cli.recipe_file import RECIPE, RECIPES, same_but_values, with_values
from mmdml.cli.recipe_parts import require_recipe
from mmdml.cli.run_folders import base_of_runs, new_run, newest_run
from mmdml.cli.trained_model import next_steps, write_model
from mmdml.engine.checkpoints import CheckpointFolder
from mmdml.engine.runner import build_runner
from mmdml.utils.machine import available_cores
from mmdml.utils.near_names import did_you_mean
from mmdml.utils.numbers import check_counts

_TRAINING = 'training'
_DEFAULT_RECIPE = 'frozen_backbone'
# Settings of a recipe that options of the same name set.
_SETTINGS = ('image_size', 'batch_size', 'epochs', 'lr', 'seed')
# Settings of the Runner that some of them are for.
_REACHED = dict(
    batch_size='train_dataloader.batch_size',
    epochs='train_cfg.max_epochs',
    lr='optim_wrapper.optimizer.lr',
    seed='randomness.seed',
)
# All that the command sets.
_SET = (
    *_SETTINGS,
    *('model_name', 'embedder', 'weights', 'color_type', 'features', 'feature_width'),
    *('data', 'val_classes', 'num_workers', 'images_per_class'),
)
# Numbers of a recipe that are 1 or more.
_COUNTS = ('batch_size', 'images_per_class', 'epochs', 'image_size', 'feature_width')
_MOST_WORKERS = 8


def train_folder(options: dict[str, Any]) -> Path:
    """Train on a folder of pictures, and return the folder of the model.

    Args:
        options: of ``mmdml train``, by name.

    Raises:
        ValueError: too few classes or pictures, an option that does not fit, or a run that is finished.
        FileNotFoundError: there is no such folder, model or recipe, or nothing to resume.
    """
    if int(os.environ.get('WORLD_SIZE', 1)) > 1:
        raise ValueError(
            'a folder is trained on by one process; several take the config that a run has written: '
            f'bash tools/dist_train.sh runs/NAME-1/{RECIPE} PROCESSES'
        )
    take_console()
    refuse_models_as_pictures([options['data']])
    data = read_own_data(options['data'])
    require_trainable(data, options['data'])
    base = base_of_runs(os.path.join('runs', data.name) if options['out'] is None else options['out'])
    run = _stopped_run(base, data, options) if options['resume'] else _started_run(base, data, options)
    cfg = _config(run, options['resume'])
    if is_frozen(cfg):
        make_features(cfg)
    runner = build_runner(cfg, ToolRunner)
    if is_frozen(cfg) and cfg.val_classes:
        score_features(runner, cfg)
    runner.train()
    folder = write_model(run, cfg, runner, data)
    click.echo(next_steps(folder, options['data'] if os.path.isdir(options['data']) else folder_of_pictures(data)))
    return run


def _started_run(base: str, data: OwnData, options: Mapping[str, Any]) -> Path:
    named = find_model(options['model'])
    named.require_weights()
    named.require_pictures()
    recipe = _recipe(options['recipe'] or _DEFAULT_RECIPE)
    with_values(recipe, {})  # a file that no config is read from is named
    values = _model_values(named) | {key: options[key] for key in _SETTINGS if options[key] is not None}
    held_out = held_out_classes(data, options['hold_out'])
    values.update(data=data.settings, val_classes=held_out)
    values['num_workers'] = options['workers']
    if options['workers'] is None:
        values['num_workers'] = min(_MOST_WORKERS, available_cores())
    defaults = read_config(str(recipe), {})
    _require_recipe(recipe, defaults, held_out)
    largest = largest_trained_class(data, held_out, defaults.train_dataloader.dataset.get('val_seed', 0))
    each = values['images_per_class'] = min(defaults.images_per_class, largest)
    values['batch_size'] = pictures_in_a_batch(
        options['batch_size'], defaults.batch_size, each, len(data.classes) - held_out
    )
    if is_frozen(defaults):
        values['feature_width'] = values['embedder']['neck']['in_channels']
    # What cannot be set or built is named before the pictures are read.
    require_recipe(recipe, values, {name: path for name, path in _REACHED.items() if options[name] is not None})
    require_readable(data)
    run = new_run(base)
    if named.folder:
        copy_licenses(license_texts(named.folder), run)
    if is_frozen(defaults):
        values['features'] = str((run / _TRAINING / 'features.npz').absolute())
    for name, text in with_values(recipe, values).items():
        (run / name).write_text(text, encoding='utf-8')
    return run


def _recipe(name: str) -> Path:
    recipe = Path(name) if name.endswith('.py') else RECIPES / f'{name}.py'
    if not recipe.is_file():
        known = sorted(path.stem for path in RECIPES.glob('*.py'))
        raise FileNotFoundError(
            f'there is no recipe {name}; there are {", ".join(known)}, and paths of configs{did_you_mean(name, known)}'
        )
    return recipe


def _require_recipe(recipe: Path, config: Config, held_out: int) -> None:
    """Check that a config has what a recipe needs, and that what it counts are numbers."""
    parts = ['train_dataloader', 'model', 'optim_wrapper', *(['val_dataloader', 'val_evaluator'] if held_out else [])]
    missing = [name for name in parts if not config.get(name)]
    missing += [name for name in ('batch_size', 'images_per_class') if name not in config]
    loader = config.get('train_dataloader')
    if loader and not (isinstance(loader, dict) and isinstance(loader.get('dataset'), dict)):
        missing.append('train_dataloader.dataset')
    if missing:
        raise ValueError(
            f'{recipe} is no recipe: it has no {", ".join(missing)}. Inherit one of configs/recommended, e.g. '
            "_base_ = ['mmdml::recommended/many_images.py']"
        )
    try:
        check_counts(**{name: config[name] for name in _COUNTS if name in config})
        check_counts(0, **{name: config[name] for name in ('seed', 'num_workers') if name in config})
    except ValueError as error:
        raise ValueError(f'{recipe}: {error}') from error


def _stopped_run(base: str, data: OwnData, options: Mapping[str, Any]) -> Path:
    run = newest_run(base)
    if (run / 'model.json').exists():
        raise ValueError(f'{run} is finished; leave --resume out to begin another run')
    if options['recipe'] and not same_but_values(_recipe(options['recipe']), run / RECIPE, _SET):
        raise ValueError(f'--recipe {options["recipe"]}: {run} began with another one, {run / RECIPE}; leave it out')
    began = read_config(str(run / RECIPE), {})
    now = {f'--{key.replace("_", "-")}': (options[key], began[key]) for key in _SETTINGS}
    now['--workers'] = options['workers'], began.num_workers
    if options['model'] != DEFAULT:
        now['--model'] = find_model(options['model']).absolute, began.model_name
    if options['hold_out'] is not None:
        now['held-out classes'] = held_out_classes(data, options['hold_out']), began.val_classes
    now['pictures'] = data.settings, began.data.to_dict()
    for name, (value, before) in now.items():
        if value not in (None, before):
            raise ValueError(f'{name} {value}: {run} began with {before}, and goes on as it began')
    require_recipe(run / RECIPE, {}, {})
    return run


def _model_values(named: NamedModel) -> dict[str, Any]:
    """Return the values of a recipe that say what the training starts from."""
    config = named.config
    layers = config.model.to_dict()
    layers.pop('head', None)
    layers.pop('freeze_bn_stats', None)
    pipeline = config.test_dataloader.dataset.pipeline
    values = dict(
        model_name=named.absolute,
        embedder=_without_scope(layers) if named.initialized else plain_settings(layers),
        weights=_from_anywhere(named.weights) or None,
        color_type='grayscale' if layers['backbone'].get('in_channels') == 1 else 'color',
    )
    sizes = [each.get('crop_size', each.get('scale')) for each in pipeline]
    size = next((each for each in reversed(sizes) if isinstance(each, int)), None)
    return values if size is None else dict(values, image_size=size)


def _from_anywhere(weights: str) -> str:
    """Return the path of weights as an absolute one; an address stays."""
    return os.path.abspath(weights) if weights and '://' not in weights else weights


def _without_scope(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {key: _without_scope(each) for key, each in settings.items() if (key, each) != ('_scope_', 'mmdml')}
    return [_without_scope(each) for each in settings] if isinstance(settings, list | tuple) else settings


def _config(run: Path, resume: bool) -> Config:
    cfg = read_config(str(run / RECIPE), {})
    watch_config(cfg)
    cfg.launcher, cfg.work_dir = 'none', str(run / _TRAINING)
    # A run that was stopped before its first checkpoint, as while its pictures were embedded, begins at the start.
    hook = cfg.default_hooks.checkpoint
    template = hook.get('filename_tmpl') or ('epoch_{}.pth' if hook.get('by_epoch', True) else 'iter_{}.pth')
    cfg.resume = resume and bool(CheckpointFolder(cfg.work_dir, template).numbered())
    if cfg.resume:
        cfg.load_from = None
    if cfg.val_classes:
        cfg.default_hooks.console.score_first = not is_frozen(cfg)
    else:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    return cfg
