"""Child registries of MMEngine's roots.

Each registry names the package that fills it (``locations``), so a part is imported the first time a config names a
``type``, and never before. A type that mmdml does not have is looked up in the parent registry (MMEngine), and
``mmpretrain.ResNet`` reaches mmpretrain.
"""

import mmengine.registry as roots
from mmengine.registry import Registry


def _child(parent: Registry, *locations: str) -> Registry:
    return Registry(parent.name, parent=parent, scope='mmdml', locations=list(locations))


#: Embedders, backbones, necks, heads, generators, losses.
MODELS = _child(roots.MODELS, 'mmdml.models')
#: Miners.
TASK_UTILS = _child(roots.TASK_UTILS, 'mmdml.models')
DATASETS = _child(roots.DATASETS, 'mmdml.datasets')
DATA_SAMPLERS = _child(roots.DATA_SAMPLERS, 'mmdml.datasets')
TRANSFORMS = _child(roots.TRANSFORMS, 'mmdml.datasets')
#: Ways to make a batch of items.
FUNCTIONS = _child(roots.FUNCTIONS, 'mmdml.datasets')
METRICS = _child(roots.METRICS, 'mmdml.evaluation.metrics')
#: Which images of a test set are queries, which are their gallery. MMEngine has no such parts.
PROTOCOLS = Registry('protocol', scope='mmdml', locations=['mmdml.evaluation.protocols'])
HOOKS = _child(roots.HOOKS, 'mmdml.engine', 'mmdml.visualization')
RUNNERS = _child(roots.RUNNERS, 'mmdml.engine')
# MMEngine looks these up under the scope of the run; without a child registry it warns each time.
LOOPS = _child(roots.LOOPS, 'mmdml.engine')
OPTIMIZERS = _child(roots.OPTIMIZERS, 'mmdml.engine')
OPTIM_WRAPPERS = _child(roots.OPTIM_WRAPPERS, 'mmdml.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(roots.OPTIM_WRAPPER_CONSTRUCTORS, 'mmdml.engine')
PARAM_SCHEDULERS = _child(roots.PARAM_SCHEDULERS, 'mmdml.engine')
LOG_PROCESSORS = _child(roots.LOG_PROCESSORS, 'mmdml.engine')
VISUALIZERS = _child(roots.VISUALIZERS, 'mmdml.engine')
VISBACKENDS = _child(roots.VISBACKENDS, 'mmdml.engine')
