"""Child registries of MMEngine's roots.

Each registry names the package that fills it (``locations``), so a part is imported the first time a config names a
``type``, and never before. A type that mmdml does not have is looked up in the parent registry (MMEngine), and
``mmpretrain.ResNet`` reaches mmpretrain.
"""

import difflib
from typing import Any

import mmengine.registry as roots
from mmengine.registry import Registry


class PartRegistry(Registry):
    """A registry that names what is near to a wrong name."""

    def build(self, cfg: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Build a part from its config.

        Raises:
            KeyError: for an unknown type, with the nearest known ones.
        """
        try:
            return super().build(cfg, *args, **kwargs)
        except KeyError as error:
            kind = str(cfg.get('type'))
            if not ' '.join(map(str, error.args)).startswith(f'{kind} is not in the '):
                raise
            self.import_from_location()  # under another scope nothing has named a part of this registry yet
            if kind in self.names():
                hint = f'default_scope of the config is not {self.scope!r}: write {self.scope}.{kind}'
                raise KeyError(f'there is no {kind} among the parts of {self.name!r} of this scope; {hint}') from None
            near = difflib.get_close_matches(kind, self.known(kind.rpartition('.')[0]))
            hint = f'did you mean {" or ".join(near)}?' if near else 'is the module that has it in custom_imports?'
            raise KeyError(f'there is no {kind} among the parts of {self.name!r}; {hint}') from None

    def names(self) -> list[str]:
        """Names of its own parts."""
        return list(self.module_dict)

    def known(self, scope: str = '') -> list[str]:
        """Names in the registry and its parent; with a scope, those of that package, with the scope before them."""
        if not scope:
            return [*self.names(), *(self.parent.module_dict if self.parent else ())]
        other = {**self.root.children, **self.children}.get(scope)
        names = other.names() if isinstance(other, PartRegistry) else other.module_dict if other else ()
        return [f'{scope}.{name}' for name in names]


def _child(parent: Registry, *locations: str) -> Registry:
    return PartRegistry(parent.name, parent=parent, scope='mmdml', locations=list(locations))


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
PROTOCOLS = PartRegistry('protocol', scope='mmdml', locations=['mmdml.evaluation.protocols'])
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
