"""Checks of a divided run before its first step."""

import logging

from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop

from mmdml.dist import get_world_size
from mmdml.engine.model_of import model_of

from .schedule import Stages, num_clusters_at


def check_divided_run(runner, hierarchical: bool, clusters_known: bool) -> None:
    """Refuse what would otherwise fail late, or silently train something else.

    Args:
        runner: about to train.
        hierarchical: whether the clusters double.
        clusters_known: whether the run has clusters already, from the checkpoint that it resumes.

    Raises:
        ValueError: for an iteration-based loop or one that resumes inside an epoch; a sampler without clusters; a neck
            or head without learners; divided weights without their clusters; a hierarchy of slices with a class-based
            loss; or a distributed run without ``find_unused_parameters=True``.
    """
    loader, model = runner.train_dataloader, model_of(runner)
    if not isinstance(runner.train_loop, EpochBasedTrainLoop) or runner.iter % len(loader):
        raise ValueError('DivisionHook divides between epochs: use an epoch-based loop, and resume from whole epochs')
    if not hasattr(loader.sampler, 'set_assignment'):
        raise ValueError(f'DivisionHook needs ClusterPKSampler, got {type(loader.sampler).__name__}')
    for part, right in ((model.neck, 'DivideAndConquerEmbedding'), (model.head, 'DivideAndConquerHead')):
        if not getattr(part, 'has_learners', False):
            raise ValueError(f'DivisionHook needs {right}, got {type(part).__name__}')
    if not clusters_known and model.neck.num_active > 1:
        raise ValueError(
            f'the weights are divided among {model.neck.num_active} learners, but their clusters are not known: '
            'resume the run that made them, or start from weights without a division'
        )
    if hierarchical and model.head.is_sliced:
        raise ValueError('the proxies of slices are cut for all learners at once: not for hierarchical=True')
    if get_world_size() > 1 and not runner.cfg.get('find_unused_parameters', False):
        raise ValueError('learners idle in turn: a distributed run needs find_unused_parameters=True in the config')


def check_stages(stages: Stages, interval: int, hierarchical: bool, num_learners: int, max_epochs: int) -> None:
    """Log a warning for divisions, learners and stages that are never reached.

    Args:
        stages: of the run.
        interval: epochs between two divisions.
        hierarchical: whether the clusters double.
        num_learners: K; nothing is divided if it is 1.
        max_epochs: of the run.

    Raises:
        ValueError: if K is no power of two for a hierarchy.
    """
    reached = num_clusters_at(0, num_learners, interval) if hierarchical else num_learners
    if num_learners == 1:
        return
    first, end = stages.first_division(interval, hierarchical), stages.fine_tune_from
    texts = []
    if end is not None and first >= end:
        texts.append(f'nothing is ever divided: the first division is due at epoch {first}, but fine_tune_from={end}')
    last = min(stages.divide_until, max_epochs) - 1
    if hierarchical and last >= stages.warm_up:
        reached = num_clusters_at(last - stages.warm_up, num_learners, interval)
    if reached < num_learners:
        texts.append(f'only {reached} of the {num_learners} learners are in use when the divide stage ends')
    texts += [
        f'{name}={epoch} lies beyond the {max_epochs} epochs of the run'
        for name, epoch in (('divide_until', stages.divide_until), ('fine_tune_from', end))
        if epoch is not None and epoch > max_epochs
    ]
    for text in texts:
        print_log(f'DivisionHook: {text}', logger='current', level=logging.WARNING)
