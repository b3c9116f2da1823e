"""The weights that a checkpoint holds, whatever wrote it."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

#: Before a path: load what fits and log what does not, for fine-tuning.
PARTIAL = 'partial:'

# Entries of a checkpoint that hold its state dict.
_CONTAINERS = ('state_dict', 'model', 'model_state_dict')
# What DistributedDataParallel, torch.compile and common training scripts put before every name.
_KNOWN_PREFIXES = ('module.', '_orig_mod.', 'model.')


class Weights(dict):
    """A state dict that keeps where it came from.

    Args:
        weights: tensors by name.
        source: path or address, for messages.
        partial: load what fits.
    """

    def __init__(self, weights: Mapping[str, 'Tensor'], source: str, partial: bool = False) -> None:
        super().__init__(weights)
        self.source = source
        self.partial = partial
        self._metadata = getattr(weights, '_metadata', None)

    def renamed(self, rename: Callable[[str], str]) -> 'Weights':
        """Return the same weights under other names."""
        renamed = Weights({rename(key): value for key, value in self.items()}, self.source, self.partial)
        if self._metadata is not None:
            renamed._metadata = {rename(f'{key}.').removesuffix('.'): value for key, value in self._metadata.items()}
        return renamed

    def with_metadata(self, weights: Mapping[str, 'Tensor']) -> 'OrderedDict[str, Tensor]':
        """Return some of these weights with the versions of the modules that wrote them, as torch loads them."""
        ordered = OrderedDict(weights)
        if self._metadata is not None:
            ordered._metadata = self._metadata
        return ordered


def read_weights(path: str, map_location: Any = 'cpu') -> Weights:
    """Read the weights of a checkpoint: a file, or an address that MMEngine's loaders take.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no weights.
        UnsafeCheckpointError: it would run code.
    """
    from mmengine.runner.checkpoint import _load_checkpoint

    return _load_checkpoint(path, map_location=map_location, logger='silent')['state_dict']


def weights_of(checkpoint: Any, source: str) -> Weights:
    """Take the tensors out of ``{'state_dict': ...}``, ``{'model': ...}``, or a bare state dict.

    Args:
        checkpoint: what a file holds.
        source: path or address, for messages; one that begins with ``partial:`` marks the weights for a load of what
            fits.

    Raises:
        ValueError: there are no weights.
    """
    from torch import Tensor

    partial, source = source.startswith(PARTIAL), source.removeprefix(PARTIAL)
    container = container_of(checkpoint)
    found = checkpoint if container is None else checkpoint[container]
    if isinstance(found, Mapping):
        weights = Weights(found, source, partial)
        for key in [key for key, value in found.items() if not isinstance(value, Tensor)]:
            del weights[key]
        if weights:
            return weights
    names = f'its entries are {sorted(map(str, checkpoint))}' if isinstance(checkpoint, Mapping) else 'it is no dict'
    raise ValueError(f'{source} holds no weights: {names}, and weights are expected under "state_dict"')


def container_of(checkpoint: Any) -> str | None:
    """Name of the entry that holds the state dict; None if the checkpoint is a bare one."""
    if not isinstance(checkpoint, Mapping):
        return None
    return next((name for name in _CONTAINERS if isinstance(checkpoint.get(name), Mapping)), None)


def without_known_prefixes(weights: Weights) -> Weights:
    """Take off ``module.``, ``_orig_mod.`` and ``model.`` where all names have them; ``_orig_mod.`` also inside."""
    weights = weights.renamed(lambda key: key.replace('_orig_mod.', ''))
    while prefix := next((each for each in _KNOWN_PREFIXES if all(key.startswith(each) for key in weights)), None):
        weights = weights.renamed(lambda key, prefix=prefix: key.removeprefix(prefix))
    return weights


def below(weights: Weights, prefix: str) -> Weights:
    """Return the weights of one part of a model, under the part's own names."""
    weights = without_known_prefixes(weights)
    prefix = f'{prefix.rstrip(".")}.'
    part = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    if not part:
        tops = sorted({key.partition('.')[0] for key in weights})
        raise ValueError(f'{weights.source} holds no weights below the prefix {prefix!r}; it has those of {tops}')
    return Weights(part, weights.source, weights.partial)
