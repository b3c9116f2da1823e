"""Plain settings of a model and its transforms, as a model folder holds them, and the check of what they build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmdml.utils.names import printable

_PLAIN = (str, int, float, bool, type(None))


def plain_settings(value: Any) -> Any:
    """Return settings that hold no ``init_cfg``, as their weights are in the folder, and lists in place of tuples.

    Raises:
        ValueError: something is neither a dict, a list, a text, a number nor a truth value.
    """
    if isinstance(value, Mapping):
        dropped = {'init_cfg', *(['_scope_'] if value.get('_scope_') == 'mmdml' else [])}
        return {str(key): plain_settings(each) for key, each in value.items() if key not in dropped}
    if isinstance(value, list | tuple):
        return [plain_settings(each) for each in value]
    if isinstance(value, _PLAIN):
        return value
    raise ValueError(f'a model folder holds plain settings, not {value!r}; name the part by its type in the config')


def check_settings(model: Mapping[str, Any], pipeline: Sequence[Any], where: str) -> None:
    """Refuse settings that would build something else than the layers and transforms of a model.

    Args:
        model: of the embedder.
        pipeline: of its transforms.
        where: the settings are from, for messages.

    Raises:
        ValueError: names the type, or the key.
    """
    from mmdml import registry

    for settings, parts, kind in ((model, registry.MODELS, 'layer'), (pipeline, registry.TRANSFORMS, 'transform')):
        for entry in _dicts(settings):
            foreign = {'init_cfg', '_scope_'} & set(entry)
            if foreign:
                raise ValueError(f'{where}: {min(foreign)} is no setting of a model folder: its weights are its own')
            name = entry.get('type')
            if name is not None and not _is_part(name, parts):
                raise ValueError(f'{where}: {printable(str(name))} is no {kind} of mmdml, mmpretrain or mmcv')
    if model.get('type') not in ('ImageEmbedder', 'mmdml.ImageEmbedder'):
        raise ValueError(f'{where}: the model is a {printable(str(model.get("type")))}, not an ImageEmbedder')


# Of mmpretrain, which also registers loaders of foreign code, only these.
_OF_MMPRETRAIN = ('backbones.', 'necks.', 'utils.data_preprocessor')


def _is_part(name: Any, registry: Any) -> bool:
    """Whether a name is that of a registered class that only computes.

    A registry also takes the dotted path of anything that can be imported, so that it cannot be asked.
    """
    scope, _, short = name.rpartition('.') if isinstance(name, str) else ('', '', '')
    if scope not in ('', 'mmdml', 'mmpretrain') or not short.isidentifier():
        return False
    if scope == 'mmpretrain':
        import mmpretrain.registry  # noqa: F401  (it adds its registries to MMEngine's)
    own = registry.parent.children[scope or 'mmdml']
    own.import_from_location()
    part = own.module_dict.get(short)
    if part is None and not scope:  # MMEngine's and MMCV's
        part = registry.parent.module_dict.get(short)
    if not isinstance(part, type):
        return False
    module = part.__module__
    return not module.startswith('mmpretrain.models.') or module[len('mmpretrain.models.') :].startswith(_OF_MMPRETRAIN)


def _dicts(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for each in value:
        yield from _dicts(each)
