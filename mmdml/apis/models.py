"""The models of the model index by their names, in a checkout and in an installed package alike."""

# Nothing here imports torch before a model is built: listing names takes no seconds.
from __future__ import annotations

import copy
import difflib
import re
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import mmdml

if TYPE_CHECKING:
    import torch
    from mmengine.config import Config

    from mmdml.models import ImageEmbedder

#: ``model-index.yml`` and ``configs/``: links into a checkout, copies in an installed package.
_PACKAGED = Path(mmdml.__file__).parent / '.mim'


def list_models(pattern: str | None = None) -> list[str]:
    """Names of the models in the model index.

    Args:
        pattern: shell-style pattern (``*``, ``?``, ``[...]``) of whole names, e.g. ``'iaa_*_cub'``. Default: all.

    Returns:
        The names in natural order: a number counts as a number, so that ``k8`` comes before ``k16``. None that
        matches is an empty list.

    Example:
        >>> from mmdml.apis import list_models
        >>> list_models('iaa_ms_*_cub')
        ['iaa_ms_bninception_cub', 'iaa_ms_googlenet_cub', 'iaa_ms_r50_cub']
    """
    names = [name for name in _index() if pattern is None or fnmatchcase(name, pattern)]
    return sorted(names, key=_natural)


def get_config(model: str | Path | Config) -> Config:
    """Return the config of a model; changing it changes nothing else.

    Args:
        model: as `get_model` takes it.

    Raises:
        FileNotFoundError: there is no such config.
        ValueError: no model has this name (the nearest are named).
        TypeError: ``model`` is none of these.
    """
    return _config_and_weights(model)[0]


def get_model(
    model: str | Path | Config,
    pretrained: bool | str | Path = False,
    device: str | torch.device | None = None,
    **overrides: Any,
) -> ImageEmbedder:
    """Build a model in evaluation mode.

    Args:
        model: a name from `list_models`, the path of a config (``.py``), or a config.
        pretrained: False: random weights, those of the backbone too; ``model.init_weights()`` then loads what the
            config's ``init_cfg`` names. True: the weights that were published under this name. A path or address:
            the weights of that checkpoint, which must fit the model; only weights of the head, which embed nothing, may
            lack or be left over. Checkpoints that could run code are refused.
        device: where to put the model. Default: the CPU.
        overrides: entries of the config's ``model`` to merge in, e.g. ``neck=dict(embed_dim=64)``.

    Raises:
        FileNotFoundError: there is no such config or checkpoint.
        ValueError: no model has this name (the nearest are named); ``pretrained=True`` where nothing was published; a
            config without ``model``; a checkpoint without weights, or with weights of other parts or shapes than the
            model's.
        TypeError: ``model`` is none of these.
        RuntimeError: a checkpoint that is damaged.
        UnsafeCheckpointError: see :mod:`mmdml.compat.safe_checkpoint`.

    Example:
        >>> import torch
        >>> from mmdml.apis import get_model
        >>> model = get_model('ms_conv4_omniglot')
        >>> with torch.no_grad():
        ...     print(model(torch.rand(2, 1, 28, 28)).shape)
        torch.Size([2, 128])
    """
    config, weights = _config_and_weights(model)
    if 'model' not in config:
        raise ValueError(f'{_called(model)} has no entry "model"')
    if pretrained is True:
        if weights is None:
            raise ValueError(
                f'no weights were published for {_called(model)}; pass pretrained="/path/to/checkpoint.pth" for '
                'weights of your own, or pretrained=False for random ones'
            )
        pretrained = weights

    from mmdml.compat.load_weights import load_weights
    from mmdml.compat.weight_files import PARTIAL, read_weights
    from mmdml.registry import MODELS

    if overrides:
        config.merge_from_dict(dict(model=overrides))
    embedder = MODELS.build(config.model)
    if pretrained:
        if str(pretrained).startswith(PARTIAL):
            raise ValueError(f'a model that embeds needs all its weights, got pretrained={str(pretrained)!r}')
        load_weights(embedder, read_weights(str(pretrained)))
    if device is not None:
        embedder.to(device)
    return embedder.eval()


@cache
def _index() -> dict[str, dict[str, Any]]:
    """Entries of all metafiles that the model index imports, by name."""
    imports = _read(_PACKAGED / 'model-index.yml')['Import']
    models = [model for file in imports for model in _read(_PACKAGED / file)['Models']]
    return {model['Name']: model for model in models}


def _read(path: Path) -> Any:
    # libyaml reads the metafiles several times as fast, where PyYAML was built with it.
    loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
    return yaml.load(path.read_text(encoding='utf-8'), Loader=loader)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key that takes digits as numbers."""
    return [(int(part), '') if part.isdigit() else (-1, part) for part in re.split(r'(\d+)', name)]


def _config_and_weights(model: str | Path | Config) -> tuple[Config, str | None]:
    """Return a config that may be changed, and the address of the published weights."""
    from mmengine.config import Config

    if isinstance(model, Config):
        return copy.deepcopy(model), None
    if not isinstance(model, (str, Path)):
        raise TypeError(f'model must be a name, the path of a config or a config, got {model!r}')
    if Path(model).suffix == '.py':
        return Config.fromfile(model), None
    entry = _index().get(str(model))
    if entry is None:
        near = difflib.get_close_matches(str(model), _index(), n=3)
        hint = f'the nearest are {", ".join(near)}' if near else 'mmdml.apis.list_models() has all'
        raise ValueError(f'the model index has no model {str(model)!r}; {hint} (the path of a config ends in .py)')
    return Config.fromfile(_PACKAGED / entry['Config']), entry.get('Weights')


def _called(model: str | Path | Config) -> str:
    """Return a model as the caller named it; a config by its file, not by all its text."""
    return str(model) if isinstance(model, (str, Path)) else f'the config {model.filename or "given"}'
