"""What a run is about to do, in a few lines: data, model, weights, device, schedule, log."""

import os.path as osp
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import IterBasedTrainLoop

import mmdml
from mmdml.compat.load_weights import loaded_weights
from mmdml.dist import get_world_size
from mmdml.engine.collapse import chance_of_first_hit, too_few_to_tell
from mmdml.engine.evaluated_data import describe_evaluated
from mmdml.engine.model_of import model_of

# Keys of a schedule that are positions in it.
_POSITIONS = ('milestones', 'begin', 'end', 'T_max')


def training_facts(runner) -> list[str]:
    """Lines about a training run, right before its first update."""
    return [
        _run(runner, 'training'),
        f'data        {_training_data(runner)}',
        f'evaluation  {_evaluation(runner)}',
        *_too_few(runner),
        *_model(runner),
        f'schedule    {_length(runner)}; {_optimizer(runner)}{"".join(f"; {each}" for each in _schedules(runner.cfg))}',
        *(f'            never reached: {each}' for each in never_reached(runner.cfg, *_end(runner))),
        f'log         {_log_file(runner)}',
    ]


def test_facts(runner) -> list[str]:
    """Lines about a test run, right before its first batch."""
    data = runner.test_dataloader.dataset
    return [
        _run(runner, 'test'),
        f'data        {_images(data)} ({describe_evaluated(data)})',
        *_model(runner),
        f'log         {_log_file(runner)}',
    ]


def _run(runner, kind: str) -> str:
    name = runner.cfg.filename or runner.experiment_name
    return f'mmdml {mmdml.__version__}, {kind} of {osp.relpath(name) if osp.isabs(name) else name}'


def _images(dataset: Any) -> str:
    summary = getattr(dataset, 'summary', None)
    return f'{len(dataset):,} images' if summary is None else str(summary)


def _training_data(runner) -> str:
    loader = runner.train_dataloader
    sampler = loader.sampler
    batch = f'batches of {loader.batch_size}'
    each = getattr(sampler, 'images_per_class', None)
    if each:
        batch += f' = {loader.batch_size // each} classes x {each} images'
    if get_world_size() > 1:
        batch += f' on each of {get_world_size()} processes'
    return f'{_images(loader.dataset)}; {len(loader):,} updates an epoch, {batch}'


def _evaluation(runner) -> str:
    if runner.val_loop is None:
        return 'none during training'
    loop = runner.train_loop
    unit = 'update' if isinstance(loop, IterBasedTrainLoop) else 'epoch'
    every = f'every {loop.val_interval:,} {unit}s' if loop.val_interval > 1 else f'after every {unit}'
    evaluated = runner.val_dataloader.dataset
    named = describe_evaluated(evaluated, runner.train_dataloader.dataset)
    return f'{_images(evaluated)} ({named}), {every}'


def _too_few(runner) -> Iterator[str]:
    labels = None if runner.val_loop is None else getattr(runner.val_dataloader.dataset, 'labels', None)
    if labels is not None and too_few_to_tell(labels):
        chance = 100 * chance_of_first_hit(labels)[0]
        yield f'            too few to tell learning from chance: a random order has Recall@1 {chance:.2f} on average'


def _model(runner) -> Iterator[str]:
    model = model_of(runner)
    parts = [type(getattr(model, name)).__name__ for name in ('backbone', 'neck') if getattr(model, name, None)]
    head = getattr(model, 'head', None)
    loss = getattr(head, 'loss_fn', None)
    width = getattr(getattr(model, 'neck', None), 'embed_dim', None)
    sources = ', '.join(getattr(head, 'sources', {}))
    yield (
        f'model       {" + ".join(parts) or type(model).__name__}'
        + (f', {width} dimensions' if width else '')
        + (f', {type(loss).__name__}' if loss is not None else '')
        + (f' with {sources}' if sources else '')
    )
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    frozen = sum(size for size, trained in sizes if not trained)
    norms = ', batch-norm statistics kept' if getattr(model, 'freeze_bn_stats', False) else ''
    yield f'parameters  {sum(size for size, _ in sizes) - frozen:,} trained, {frozen:,} frozen{norms}'
    yield f'weights     {_weights(model)}'
    device = next(model.parameters()).device
    name = f' ({torch.cuda.get_device_name(device)})' if device.type == 'cuda' else ''
    precision = 'mixed precision' if isinstance(runner.optim_wrapper, AmpOptimWrapper) else 'fp32'
    world = get_world_size()
    yield f'device      {device}{name}, {precision}' + (f', {world} processes' if world > 1 else '')


def _weights(model: torch.nn.Module) -> str:
    fitted, wanted, sources = loaded_weights(model)
    if not sources and hasattr(model, 'backbone') and not model.backbone.state_dict():
        return f'of the neck: new, 0 of {wanted} from a file; the backbone made the features that are the input'
    origin = f'from {", ".join(sources)}' if sources else 'from a file: random initialization'
    return f'{fitted} of {wanted} (without head) {origin}'


def _end(runner) -> tuple[int, int]:
    """Return the number of epochs and of updates of the run."""
    loop = runner.train_loop
    return loop.max_epochs, loop.max_iters


def _length(runner) -> str:
    epochs, updates = _end(runner)
    length = f'{updates:,} updates'
    if not isinstance(runner.train_loop, IterBasedTrainLoop):
        length = f'{epochs:,} epoch{"s" if epochs > 1 else ""}, {length}'
    return f'{length}, from update {runner.iter:,} on' if runner.iter else length


def _optimizer(runner) -> str:
    wrapper = runner.optim_wrapper
    optimizer = getattr(wrapper, 'optimizer', None)
    if optimizer is None:
        return type(wrapper).__name__
    rates = sorted({group.get('initial_lr', group['lr']) for group in optimizer.param_groups})
    rates = rates if len(rates) == 1 else [rates[0], rates[-1]]
    return f'{type(optimizer).__name__}, learning rate {" to ".join(f"{rate:g}" for rate in rates)}'


def _scheduler_configs(cfg: Any) -> list[dict[str, Any]]:
    found = cfg.get('param_scheduler') or []
    return [found] if isinstance(found, dict) and 'type' in found else list(found) if isinstance(found, list) else []


def _schedules(cfg: Any) -> Iterator[str]:
    for each in _scheduler_configs(cfg):
        unit = 'epoch' if each.get('by_epoch', True) else 'update'
        places = [f'{key} {each[key]}' for key in (*_POSITIONS, 'gamma', 'factor') if each.get(key)]
        yield f'{each["type"]} by {unit}' + (f' ({", ".join(places)})' if places else '')


def never_reached(cfg: Any, epochs: int, updates: int) -> list[str]:
    """Return the steps of the schedule that lie behind the end of the run.

    Args:
        cfg: config with ``param_scheduler``.
        epochs: number of epochs of the run.
        updates: number of its updates.

    Returns:
        One text for each scheduler that has such steps.
    """
    found = []
    for each in _scheduler_configs(cfg):
        by_epoch = each.get('by_epoch', True)
        loop = (cfg.get('train_cfg') or {}).get('type', '')
        if loop == 'IterBasedTrainLoop' and by_epoch and not each.get('convert_to_iter_based'):
            found.append(f'{each["type"]} by epoch (the run counts updates: by_epoch=False)')
            continue
        end, unit = (epochs, 'epochs') if by_epoch else (updates, 'updates')
        late = [step for step in each.get('milestones', ()) if step >= end]
        if late:
            found.append(f'milestones {", ".join(map(str, late))} of {each["type"]} (the run has {end:,} {unit})')
        elif each.get('begin', 0) >= end:
            found.append(f'{each["type"]}, which begins at {each["begin"]} (the run has {end:,} {unit})')
        elif max(each.get('T_max') or 0, each.get('end') or 0) > end:
            last = max(each.get('T_max') or 0, each.get('end') or 0)
            found.append(f'the end of {each["type"]} at {last} (the run has {end:,} {unit})')
    return found


def _log_file(runner) -> str:
    return osp.relpath(runner.logger.log_file) if runner.logger.log_file else runner.work_dir
