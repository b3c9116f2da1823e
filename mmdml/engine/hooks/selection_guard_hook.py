"""Refusing to select on test classes."""

import inspect
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.logging import print_log
from mmengine.optim import ReduceOnPlateauParamScheduler

from mmdml.engine.evaluated_data import common_pictures, describe_evaluated
from mmdml.registry import DATASETS, HOOKS

# What differs between training and validation data whatever they are.
_OWN_KEYS = {'pipeline', 'split', 'val_classes', 'test_mode', 'on_unreadable', 'seed'}


@HOOKS.register_module()
class SelectionGuardHook(Hook):
    """Refuse to select by scores on test classes, or on classes that are trained on.

    Scores on test classes during training are a monitor: they select nothing. A best checkpoint, early stopping or a
    plateau schedule needs validation data of held-out *training* classes (``split='val'``), none of whose images is
    among the test data. Training images without labels are refused as well: there is nothing to learn from.

    Raises:
        ValueError: before training, if the training images have no labels, or something selects by scores on test
            classes, on validation classes that are trained on, or on images of the test data. The message then holds
            the settings that validate on held-out training classes instead, taken from the training dataset.

    Config::

        default_hooks = dict(selection_guard=dict(type='SelectionGuardHook'))
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner) -> None:
        trained = runner.train_dataloader.dataset
        if getattr(trained, 'metainfo', {}).get('unlabeled'):
            raise ValueError(
                'the training images have no labels (unlabeled=True): they can be embedded with tools/test.py '
                '--no-scores --out FILE.npz, not trained on'
            )
        if runner.val_loop is None:
            return
        evaluated = runner.val_dataloader.dataset
        parts = [*runner.hooks, *(runner.param_schedulers or [])]
        selecting = [type(part).__name__ for part in parts if _selects(part)]
        if selecting:
            fault = self._fault(runner, evaluated, trained)
            if fault:
                raise ValueError(f'{selecting} would select by scores on {fault}. {_remedy(runner.cfg)}')
        scored = describe_evaluated(evaluated, trained)
        if scored.startswith('test classes'):
            print_log(f'Evaluations during training are a monitor on {scored}: they select nothing', 'current')
        elif getattr(evaluated, 'split', None) == 'test':
            print_log(f"Evaluations with split='test' are on {scored}", 'current', level=30)

    def _fault(self, runner, evaluated: Any, trained: Any) -> str:
        """Return what is wrong with selecting by scores of ``evaluated``; '' if nothing is."""
        split = getattr(evaluated, 'split', None)
        if split not in ('train', 'val'):
            return f'test classes (split={split!r})'
        if split == 'train':
            tested = _test_dataset(runner)
            both = common_pictures(evaluated, tested) or {}
            known = common_pictures(evaluated, trained) or {}
            return _named([name for row, name in both.items() if row not in known])
        common = set(trained.metainfo['classes']) & set(evaluated.metainfo['classes'])
        if common:
            return (
                f'{len(common)} validation classes that are trained on, e.g. {sorted(common)[0]!r}: the training data '
                'set needs the same val_classes'
            )
        tested = _test_dataset(runner)
        shared = common_pictures(evaluated, tested) if getattr(tested, 'split', None) == 'test' else None
        return _named([*(shared or {}).values()])


def _named(pictures: list[str]) -> str:
    return f'{len(pictures)} pictures of the test data, e.g. {min(pictures)}' if pictures else ''


def _selects(part: Any) -> bool:
    if isinstance(part, CheckpointHook):
        return part.save_best is not None
    return isinstance(part, EarlyStoppingHook | ReduceOnPlateauParamScheduler)


def _test_dataset(runner) -> Any | None:
    """Return the dataset of the test loader; None if there is none, or its files are not here."""
    loader = runner.cfg.get('test_dataloader')
    dataset = None if loader is None else loader.get('dataset')
    if not isinstance(dataset, Mapping):
        return dataset
    try:
        return DATASETS.build(dict(dataset))
    except FileNotFoundError as error:
        print_log(f'Whether validation and test data share pictures is unknown: {error}', 'current', level=30)
        return None


def _remedy(cfg: Mapping[str, Any]) -> str:
    """Return settings that validate on held-out classes of the training dataset, wherever that lies."""
    trained, evaluated = ((cfg.get(f'{name}_dataloader') or {}).get('dataset') for name in ('train', 'val'))
    words = ['train_dataloader.dataset.val_classes=0.2']
    if not (isinstance(trained, Mapping) and isinstance(evaluated, Mapping)):
        words += ["val_dataloader.dataset.split='val'", 'val_dataloader.dataset.val_classes=0.2']
        return 'Validate on held-out classes of the training data: ' + ' '.join(words)
    if trained.get('type') != evaluated.get('type') or 'datasets' in trained or 'dataset' in trained:
        return (
            'Validate on held-out classes of the training data: give it val_classes=0.2, and val_dataloader.dataset a '
            "copy of it with split='val', val_classes=0.2, test_mode=True and the pipeline of the test"
        )
    kind = DATASETS.get(trained['type']) if isinstance(trained.get('type'), str) else trained.get('type')
    defaults = {} if kind is None else _defaults(kind)
    for key in sorted({*trained, *evaluated} - _OWN_KEYS - {'type', '_scope_'}):
        value = trained.get(key, defaults.get(key))
        if value != evaluated.get(key, defaults.get(key)):
            words.append(f'val_dataloader.dataset.{key}={value!r}')
    words += ["val_dataloader.dataset.split='val'", 'val_dataloader.dataset.val_classes=0.2']
    return 'Validate on held-out classes of the training data: ' + ' '.join(words)


def _defaults(kind: type) -> dict[str, Any]:
    """Defaults of the arguments of a class and its bases."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if '__init__' in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()
            found |= {one.name: one.default for one in parameters if one.default is not one.empty}
    return found
