"""What must be the same for a resumed run to be the run that was interrupted."""

import hashlib
from pathlib import PurePath
from typing import Any

from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch.utils.data import Dataset

from mmdml.dist import get_world_size

Facts = dict[str, int | str]

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
    own = {'run', 'gradients'}
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
