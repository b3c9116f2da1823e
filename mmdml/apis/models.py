"""Models by name: listed, configured and built."""

# Nothing here imports torch before a model is built: listing names takes no seconds.
from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmdml.apis.model_index import model_index, natural_order
from mmdml.apis.model_names import find_model
from mmdml.apis.named_model import NamedModel

if TYPE_CHECKING:
    import torch
    from mmengine.config import Config

    from mmdml.models import ImageEmbedder


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
    names = [name for name in model_index() if pattern is None or fnmatchcase(name, pattern)]
    return sorted(names, key=natural_order)


def get_config(model: str | Path | Config) -> Config:
    """Return the config of a model; changing it changes nothing else.

    Args:
        model: as :func:`~mmdml.apis.model_names.find_model` takes it.

    Raises:
        FileNotFoundError, ValueError, TypeError: see :func:`~mmdml.apis.model_names.find_model`; ValueError also for an
            exported file, which has no config.
    """
    return find_model(model).config


def get_model(
    model: str | Path | Config = 'default',
    pretrained: bool | str | Path | None = None,
    device: str | torch.device | None = None,
    **overrides: Any,
) -> ImageEmbedder:
    """Build a model in evaluation mode.

    Args:
        model: a name, as :func:`~mmdml.apis.model_names.find_model` takes it, or a config.
        pretrained: None: the weights that belong to the name, as those of a model folder do, and random ones where
            there are none. False: random weights, those of the backbone too; ``model.init_weights()`` then loads what
            the config's ``init_cfg`` names. True: the weights that belong to the name, or an error. A path or address:
            the weights of that checkpoint, which must fit the model; only weights of the head, which embed nothing, may
            lack or be left over. Checkpoints that could run code are refused.
        device: where to put the model. Default: the CPU.
        overrides: entries of the config's ``model`` to merge in, e.g. ``neck=dict(embed_dim=64)``.

    Raises:
        FileNotFoundError: there is no such config, folder or checkpoint.
        ValueError: no model has this name (the nearest are named); ``pretrained=True`` where no weights belong to it; a
            config without ``model``, or an exported file; a checkpoint without weights, or with weights of other parts
            or shapes than the model's.
        TypeError: ``model`` is none of these.
        RuntimeError: a checkpoint that is damaged.
        UnsafeCheckpointError: see :mod:`mmdml.compat.safe_checkpoint`.

    Example:
        >>> import torch
        >>> from mmdml.apis import get_model
        >>> model = get_model('ms_conv4_omniglot', pretrained=False)
        >>> with torch.no_grad():
        ...     print(model(torch.rand(2, 1, 28, 28)).shape)
        torch.Size([2, 128])
    """
    return build_named(find_model(model), pretrained, device, overrides)


def build_named(
    named: NamedModel,
    pretrained: bool | str | Path | None = None,
    device: str | torch.device | None = None,
    overrides: dict[str, Any] | None = None,
) -> ImageEmbedder:
    """Build a model that was found by its name; arguments and errors as of :func:`get_model`."""
    config = named.config
    if 'model' not in config:
        raise ValueError(f'{named.name} has no entry "model"')
    if pretrained is True:
        named.require_weights()
    own = pretrained is None or pretrained is True
    weights = named.weights if own else str(pretrained or '')

    from mmengine.registry import DefaultScope

    from mmdml.compat.load_weights import load_weights
    from mmdml.compat.weight_files import PARTIAL, read_weights
    from mmdml.registry import MODELS

    if overrides:
        config.merge_from_dict(dict(model=overrides))
    if weights.startswith(PARTIAL):
        raise ValueError(f'a model that embeds needs all its weights, got pretrained={weights!r}')
    # Whatever scope a Runner of this process has left: names without one are those of the config's.
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmdml')), named.building():
        untrained = own and named.initialized and not weights
        embedder = build_untrained(config.model) if untrained else MODELS.build(config.model)
    if weights:
        load_weights(embedder, read_weights(weights))
    if device is not None:
        embedder.to(device)
    return embedder.eval()


def build_untrained(settings: dict[str, Any], seed: int = 0) -> ImageEmbedder:
    """Build an embedder with what its ``init_cfg`` names; all other weights are random, and the same in every process.

    Args:
        settings: of the embedder; with or without a head, the other parts begin alike.
        seed: of the random weights.
    """
    from mmdml.registry import MODELS
    from mmdml.utils.seeding import Stream, torch_seeded

    # Parts draw when they are built, the head last, and again when they are initialized.
    with torch_seeded(Stream.UNTRAINED_WEIGHTS, seed, 0):
        embedder = MODELS.build(settings)
    with torch_seeded(Stream.UNTRAINED_WEIGHTS, seed, 1):
        embedder.init_weights()
    return embedder
