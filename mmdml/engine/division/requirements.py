"""Checks of a divided run before its first step."""

from mmengine.runner import EpochBasedTrainLoop

from mmdml.dist import get_world_size
from mmdml.engine.model_of import model_of


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
