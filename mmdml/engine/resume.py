"""What must be the same for a resumed run to be the run that was interrupted."""

import hashlib
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch.utils.data import Dataset

from mmdml.dist import get_world_size

Facts = dict[str, int | str]

# Sections of a config that decide on the steps of a run, and the entries in them that do not.
_SECTIONS = ('model', 'train_dataloader', 'optim_wrapper', 'param_scheduler', 'randomness', 'auto_scale_lr')
_SECTIONS += ('default_hooks', 'custom_hooks')
_FREE = frozenset(
    'num_workers persistent_workers pin_memory prefetch_factor timeout data_root data_prefix ann_file init_cfg '
    'diagnostics_interval logger checkpoint console timer summary selection_guard finite_loss'.split()
)
# Restored from the checkpoint, or part of what was drawn so far: a change would be without effect, or half of one.
_RESTORED = ('train_dataloader.sampler.', 'optim_wrapper.', 'param_scheduler.', 'randomness.', 'auto_scale_lr.')

# Settings of schedules that are the length of the run where the config does not give them.
_LENGTHS = ('T_max', 'total_iters', 'total_steps')

_ADVICE = (
    'Resume with the config, data and number of processes of that run, or start a new run from its weights: '
    'load_from=CHECKPOINT without --resume, in another --work-dir'
)


def facts_of_run(runner) -> Facts:
    """Return what decides on the steps of a run, by the names of the config; plain numbers and strings."""
    loader = runner.train_dataloader
    dataset = loader.dataset
    return {
        'train_cfg.type': type(runner.train_loop).__name__,
        'number of processes': get_world_size(),
        'train_dataloader.batch_size': loader.batch_size or 0,
        'batches an epoch': len(loader),
        'training images': len(dataset),
        'paths and labels of the training images': _digest_of_images(dataset),
        'optim_wrapper': _optimizers(runner.optim_wrapper),
        'param_scheduler': _schedulers(runner.param_schedulers),
        'averaged weights (EMAHook)': int(any(isinstance(hook, EMAHook) for hook in runner.hooks)),
    }


def check_facts(saved: Facts, present: Facts) -> None:
    """Refuse to resume a run that would go on as another one.

    Raises:
        ValueError: naming what differs, with both values.
    """
    differing = [f'{name}: {saved.get(name)} then, {value} now' for name, value in present.items()]
    differing = [text for text, name in zip(differing, present, strict=True) if saved.get(name) != present[name]]
    if differing:
        raise ValueError(
            'cannot resume: the run that wrote the checkpoint differs from this one in '
            + '; '.join(differing)
            + '. '
            + _ADVICE
        )


def settings_of_run(config: Any) -> dict[str, str]:
    """Return the plain values of a config that decide on the steps of a run, as text, by their paths."""
    values = config.to_dict() if hasattr(config, 'to_dict') else config
    return {
        path: repr(value)
        for section in _SECTIONS
        for path, value in _leaves(values.get(section), section)
        if not _FREE & set(path.split('.'))
    }


def check_settings(saved: dict[str, str], present: dict[str, str]) -> str:
    """Refuse settings that a resumed run would not follow, and describe other ones that differ.

    Returns:
        A sentence about the settings that hold from here on; '' if none differs.

    Raises:
        ValueError: naming settings that the checkpoint overrules.
    """
    paths = [path for path in sorted({*saved, *present}) if saved.get(path) != present.get(path)]
    texts = {path: f'{path}: {saved.get(path, "not set")} then, {present.get(path, "not set")} now' for path in paths}
    restored = [text for path, text in texts.items() if path.startswith(_RESTORED)]
    if restored:
        raise ValueError(
            'cannot resume: the optimizer, its schedules and the random order go on as the checkpoint has them, but '
            f'the config has {_some(restored)}. {_ADVICE}'
        )
    return f'resuming with settings that the run did not have so far: {_some(list(texts.values()))}' if texts else ''


def _some(texts: list[str]) -> str:
    return '; '.join(texts[:4]) + (f'; and {len(texts) - 4} more' if len(texts) > 4 else '')


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f'{path}.{key}')
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f'{path}.{number}')
    elif isinstance(value, str | int | float | None):
        yield path, value


def check_parts(checkpoint: dict[str, Any], parts: set[str]) -> None:
    """Refuse to resume from a checkpoint that lacks the state of a part, or has state that no part takes.

    Args:
        checkpoint: as loaded.
        parts: names of the parts of this run that keep a state.

    Raises:
        KeyError: naming the parts.
        ValueError: if the checkpoint holds weights only.
    """
    lacking = [name for name in ('mmdml', 'optimizer', 'meta', 'message_hub') if name not in checkpoint]
    if lacking:
        raise ValueError(
            f'cannot resume: the checkpoint has no {lacking}; it is a best or a published checkpoint, which holds '
            'weights only, or of another program. Resume from the last checkpoint of its run (epoch_N.pth), or start '
            'a new run from its weights: load_from=CHECKPOINT without --resume'
        )
    saved = set(checkpoint['mmdml'])
    own = {'run', 'settings', 'gradients'}
    missing, left_over = sorted((parts | own) - saved), sorted(saved - parts - own)
    if missing or left_over:
        raise KeyError(
            f'cannot resume: the checkpoint holds no state for {missing}, and state of {left_over} that this run does '
            f'not have. Was it written by another config? {_ADVICE}'
        )


def _digest_of_images(dataset: Dataset) -> str:
    """Hash of labels and of the ends of the paths, so that a moved dataset is the same one."""
    if not hasattr(dataset, 'labels') or not hasattr(dataset, 'get_data_info'):
        return 'unknown'
    paths = [PurePath(dataset.get_data_info(i).get('img_path', '')).parts[-2:] for i in range(len(dataset))]
    text = '\n'.join(f'{"/".join(path)}\t{label}' for path, label in zip(paths, dataset.labels.tolist(), strict=True))
    return hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:12]


def follow_new_end(states: list[dict[str, Any]], schedulers: Any) -> list[int]:
    """Let the saved schedules of a run that is to last longer, or less long, go on to its new end.

    A checkpoint holds where its schedules end, which mostly is where its run would have ended.

    Args:
        states: of the schedules in the checkpoint, which are changed.
        schedulers: those of this run.

    Returns:
        Numbers of the schedules that stood at their old end: they have a step to make up once they are restored.

    Raises:
        ValueError: a schedule is stretched over the run, so that it would have gone another way from its beginning.
    """
    behind, stretched = [], []
    for number, (state, scheduler) in enumerate(zip(states, all_schedulers(schedulers), strict=True)):
        now = scheduler.state_dict()
        lengths = [name for name in _LENGTHS if state.get(name) != now.get(name)]
        stretched += [f'{type(scheduler).__name__}.{name}: {state.get(name)} then, {now[name]} now' for name in lengths]
        if 'end' not in state or state['end'] == now['end']:
            continue
        if state['end'] <= state['_global_step'] < now['end']:
            state['_global_step'] -= 1
            behind.append(number)
        state['end'] = now['end']
    if stretched:
        raise ValueError(
            f'cannot resume: a schedule is stretched over the run, whose length is another one now: '
            f'{"; ".join(stretched)}. Resume with the length of the run that was interrupted, or start a new run from '
            'its weights: load_from=CHECKPOINT without --resume, in another --work-dir'
        )
    return behind


def all_schedulers(schedulers: Any) -> list[Any]:
    """Return the schedules of a run in one list, those of one optimizer or of several by name."""
    parts = schedulers.values() if isinstance(schedulers, dict) else [schedulers or []]
    return [each for part in parts for each in part]


def _optimizers(wrapper: OptimWrapper | OptimWrapperDict) -> str:
    parts = wrapper.items() if isinstance(wrapper, OptimWrapperDict) else [('', wrapper)]
    return ', '.join(
        f'{name} {type(part).__name__} of {type(part.optimizer).__name__}, '
        f'accumulative_counts={part._accumulative_counts}'.strip()
        for name, part in parts
    )


def _schedulers(schedulers: Any) -> str:
    parts = schedulers.items() if isinstance(schedulers, dict) else [('', schedulers or [])]
    return ', '.join(f'{name} {[type(each).__name__ for each in part]}'.strip() for name, part in parts)
