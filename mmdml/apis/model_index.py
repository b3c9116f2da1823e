"""The models that have names: those of the index, those that come with the package, and those of timm."""

# Nothing here imports torch: listing names takes no seconds.
from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import mmdml

_PACKAGE = Path(mmdml.__file__).parent
#: ``model-index.yml`` and ``configs/``: links into a checkout, copies in an installed package.
PACKAGED = _PACKAGE / '.mim'
#: Model folders that come with the package, by name.
SHIPPED = _PACKAGE / 'shipped'
#: The model that is taken where none is named, and which of the shipped ones it is.
DEFAULT, DEFAULT_IS = 'default', 'iaa_ms_mobilenet-v2_grocery'


def shipped_models() -> dict[str, Path]:
    """Model folders inside the package, by name."""
    folders = [path.parent for path in sorted(SHIPPED.glob('*/model.json'))]
    # The hash of the weights ends the name of the folder.
    return {folder.name.rpartition('-')[0]: folder for folder in folders}


def available_models(pattern: str | None = None) -> dict[str, list[str]]:
    """Names by what they need: ``offline`` for nothing, ``downloaded``, and ``own_weights``.

    Args:
        pattern: shell-style pattern of whole names. Default: all; of timm, whose models are many, one line.
    """
    published = {name: entry.get('Weights') for name, entry in _sorted_index() if name not in shipped_models()}
    timm = sorted(_timm_names(pattern)) if pattern and pattern.startswith('timm/') else ['timm/NAME']
    groups = dict(
        offline=[*([DEFAULT] if DEFAULT_IS in shipped_models() else []), *shipped_models()],
        downloaded=[*(name for name, weights in published.items() if weights), *timm],
        own_weights=[name for name, weights in published.items() if not weights],
    )
    if pattern is None:
        return groups
    return {group: [name for name in names if fnmatchcase(name, pattern)] for group, names in groups.items()}


def _sorted_index() -> list[tuple[str, dict[str, Any]]]:
    return sorted(model_index().items(), key=lambda each: natural_order(each[0]))


def _timm_names(pattern: str) -> list[str]:
    import timm

    return [f'timm/{name}' for name in timm.list_models(pattern.removeprefix('timm/'), pretrained=True)]


def natural_order(name: str) -> list[tuple[int, str]]:
    """Return the key of a name by which digits sort as numbers."""
    return [(int(part), '') if part.isdigit() else (-1, part) for part in re.split(r'(\d+)', name)]


@cache
def model_index() -> dict[str, dict[str, Any]]:
    """Entries of all metafiles that the model index imports, by name."""
    imports = _read(PACKAGED / 'model-index.yml')['Import']
    models = [model for file in imports for model in _read(PACKAGED / file)['Models']]
    return {model['Name']: model for model in models}


def _read(path: Path) -> Any:
    # libyaml reads the metafiles several times as fast, where PyYAML was built with it.
    loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
    return yaml.load(path.read_text(encoding='utf-8'), Loader=loader)
