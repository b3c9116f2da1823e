"""One way to name a model, for every command and function."""

# Nothing here imports torch: listing names takes no seconds, and an exported file is found without it.
from __future__ import annotations

import copy
import difflib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mmdml.apis.model_index import DEFAULT, DEFAULT_IS, PACKAGED, model_index, shipped_models
from mmdml.apis.named_model import UNTRAINED, NamedModel
from mmdml.utils.names import printable

if TYPE_CHECKING:
    from mmengine.config import Config

#: Endings of exported files, which run without torch.
EXPORTED = ('.onnx', '.xml')


class ModelKind(NamedTuple):
    """One way to write a model.

    Attributes:
        name: of the kind.
        form: how it is written, for help and messages.
        takes: whether a name, without what follows its colon, is of this kind.
        find: returns the model of such a name.
    """

    name: str
    form: str
    takes: Callable[[str], bool]
    find: Callable[[str], NamedModel]


def find_model(model: str | Path | Config) -> NamedModel:
    """Return what a name means.

    ============================  ==================================================================================
    ``default``                   the embedder that comes with the package
    ``FOLDER``                    a model folder, as ``mmdml train`` writes it
    ``timm/NAME``                 a model of timm with its pretrained weights
    ``MODEL.onnx``                an exported file (also ``.xml`` of OpenVINO)
    ``CONFIG.py``                 a config; without weights
    a name of the model index     its config, and its weights if some were published
    ``MODEL:CHECKPOINT``          one of the above, which is not exported, with the weights of a checkpoint
    ``MODEL:untrained``           the pretrained backbone that the config names, and nothing trained; what is random in
                                  it is the same in every process
    ============================  ==================================================================================

    Args:
        model: a name, or a config.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: no model has this name (the nearest are named).
        TypeError: ``model`` is none of these.
    """
    if isinstance(model, str | Path):
        return _find(os.fspath(model))
    from mmengine.config import Config

    if not isinstance(model, Config):
        raise TypeError(f'model must be a name, the path of a config or a config, got {model!r}')
    return NamedModel(f'the config {model.filename or "given"}', 'config', lambda: copy.deepcopy(model))


def _find(name: str) -> NamedModel:
    base, colon, weights = (name, '', '') if os.path.exists(name) else name.partition(':')
    found = next(kind for kind in KINDS if kind.takes(base)).find(base)
    if not colon:
        return found
    if found.exported or not weights:
        fault = f'{base} is exported with its weights' if found.exported else 'a checkpoint is missing after the colon'
        raise ValueError(f'{name}: {fault}; write MODEL:CHECKPOINT, e.g. mine.py:epoch_10.pth')
    if weights == UNTRAINED:
        return replace(found, name=name, weights='', initialized=True)
    # With a colon it is an address, which MMEngine loads; timm's backbone reads a file in its layout.
    timm = found.kind == 'timm'
    if (timm or ':' not in weights) and not os.path.isfile(weights):
        raise FileNotFoundError(f'there is no file of weights {printable(os.path.abspath(weights))}')
    if timm:
        return replace(found, name=name, read_config=lambda: _timm_config(base, weights))
    return replace(found, name=name, weights=weights, initialized=False)


def _find_default(name: str) -> NamedModel:
    folder = shipped_models().get(DEFAULT_IS)
    if folder is None:
        raise FileNotFoundError(
            'this installation of mmdml has no default model; name one: a model folder, timm/NAME, '
            'CONFIG.py:CHECKPOINT or an exported file'
        )
    return replace(_find_folder(str(folder)), name=name, kind='default')


def _find_exported(name: str) -> NamedModel:
    if not os.path.isfile(name):
        raise FileNotFoundError(f'there is no exported model {printable(os.path.abspath(name))}')
    return NamedModel(name, 'exported', None, exported=name)


def _find_folder(name: str) -> NamedModel:
    from mmdml.apis.model_folder import ModelFolder

    folder = ModelFolder.read(name)
    return NamedModel(name, 'folder', folder.config, str(folder.weights), folder=str(folder.path))


def _find_timm(name: str) -> NamedModel:
    return NamedModel(name, 'timm', lambda: _timm_config(name), initialized=True)


def _timm_config(name: str, checkpoint: str | None = None) -> Config:
    from mmdml.apis.timm_models import timm_config

    return timm_config(name.removeprefix('timm/'), checkpoint)


def _find_config(name: str) -> NamedModel:
    if not os.path.isfile(name):
        raise FileNotFoundError(f'there is no config {printable(os.path.abspath(name))}')
    return NamedModel(name, 'config', lambda: _config_of(name))


def _find_indexed(name: str) -> NamedModel:
    entry = model_index().get(name)
    if entry is None:
        known = [*model_index(), DEFAULT, *_model_folders(os.path.dirname(name))]
        near = difflib.get_close_matches(name, known, n=3)
        hint = f'the nearest are {", ".join(near)}' if near else 'mmdml list has all'
        forms = ', '.join(kind.form for kind in KINDS[:-1])
        raise ValueError(
            f'there is no folder and no model {printable(name)!r}; {hint} (a model is {forms}, or a name of the index)'
        )
    shipped = shipped_models().get(name)
    weights = str(shipped / 'weights.pth') if shipped else entry.get('Weights', '')
    config = str(PACKAGED / entry['Config'])
    return NamedModel(name, 'indexed', lambda: _config_of(config), weights, folder=str(shipped or ''))


def _model_folders(place: str) -> list[str]:
    """Paths of the model folders in a folder, for names that are nearly one of them."""
    try:
        folders = [os.path.join(place, each) for each in os.listdir(place or '.')]
    except OSError:
        return []
    return [each for each in folders if os.path.isfile(os.path.join(each, 'model.json'))]


#: The kinds of names; the first that takes a name finds its model.
KINDS: tuple[ModelKind, ...] = (
    ModelKind('default', DEFAULT, lambda name: name == DEFAULT, _find_default),
    ModelKind('exported', 'FILE.onnx', lambda name: name.lower().endswith(EXPORTED), _find_exported),
    ModelKind('timm', 'timm/NAME', lambda name: name.startswith('timm/'), _find_timm),
    ModelKind('config', 'CONFIG.py:CHECKPOINT', lambda name: name.endswith('.py'), _find_config),
    ModelKind('folder', 'FOLDER', os.path.isdir, _find_folder),
    ModelKind('indexed', 'a name of the index', lambda name: True, _find_indexed),
)


def _config_of(path: str) -> Config:
    from mmengine.config import Config

    return Config.fromfile(path)
