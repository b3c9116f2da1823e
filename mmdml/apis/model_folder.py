"""A model as a folder: weights, layers, pre-processing, class names and card. Reading one runs no code.

``model.json``
    The layers and the pre-processing as plain settings, the hash of both with the weights, the names of the training
    classes, and how the model was trained.
``weights.pth``
    A state dict, without the head.
``README.md``
    The model card.
``licenses``
    Texts, where there are some.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmdml.apis.model_settings import check_settings, plain_settings
from mmdml.utils.files import write_atomically
from mmdml.utils.names import printable

if TYPE_CHECKING:
    import torch
    from mmengine.config import Config

    from mmdml.models import ImageEmbedder

#: Version of the format.
FORMAT = 1
_SETTINGS, _WEIGHTS, _CARD, _LICENSES = 'model.json', 'weights.pth', 'README.md', 'licenses'
_FIELDS = ('model', 'pipeline', 'model_hash', 'weights_hash', 'classes', 'training')


@dataclass(frozen=True)
class ModelFolder:
    """A model folder that was read and checked.

    Attributes:
        path: of the folder.
        model: settings of the embedder, without head.
        pipeline: transforms from a file to the model's input.
        model_hash: of weights, layers and pre-processing, as
            :attr:`~mmdml.apis.ImageEmbeddingInferencer.model_hash` has it.
        weights_hash: SHA-256 of the file of weights.
        classes: names of the classes that it was trained on.
        training: how it was trained, such as ``data``, ``command``, ``commit`` and ``scores``.
    """

    path: Path
    model: dict[str, Any]
    pipeline: list[dict[str, Any]]
    model_hash: str
    weights_hash: str
    classes: list[str] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> ModelFolder:
        """Read a folder, and check that the weights are those that were written with it.

        Raises:
            FileNotFoundError: it is no model folder.
            ValueError: it is of a later version, incomplete, or its weights are others.
        """
        path = Path(path)
        shown = printable(path.absolute())
        try:
            content = json.loads((path / _SETTINGS).read_text(encoding='utf-8'))
        except FileNotFoundError:
            raise FileNotFoundError(
                f'{shown} is no model folder: it has no {_SETTINGS}. mmdml train writes one; a run of '
                'tools/train.py is named by its config and checkpoint, CONFIG.py:CHECKPOINT'
            ) from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f'{shown}/{_SETTINGS} cannot be read: {error}') from error
        if not isinstance(content, dict) or content.get('format') != FORMAT:
            found = content.get('format') if isinstance(content, dict) else None
            raise ValueError(f'{shown} has format {found!r}, and this version of mmdml reads {FORMAT}; update mmdml')
        kinds = dict(model=dict, pipeline=list, model_hash=str, classes=list, training=dict, weights_hash=str)
        for key, kind in kinds.items():
            if not isinstance(content.get(key), kind):
                raise ValueError(f'{shown}/{_SETTINGS}: {key} is missing or of the wrong kind')
        inner = dict(pipeline=(content['pipeline'], dict), classes=(content['classes'], str))
        inner['model'] = [content['model'].get(name, {}) for name in ('backbone', 'neck')], dict
        for key, (entries, kind) in inner.items():
            if not all(isinstance(each, kind) for each in entries):
                raise ValueError(f'{shown}/{_SETTINGS}: an entry of {key} is of the wrong kind')
        if not (path / _WEIGHTS).is_file():
            raise FileNotFoundError(f'{shown} has no {_WEIGHTS}: copy the whole folder')
        if _sha256(path / _WEIGHTS) != content['weights_hash']:
            raise ValueError(
                f'{shown}/{_WEIGHTS} are not the weights that {_SETTINGS} belongs to; copy the folder again'
            )
        check_settings(content['model'], content['pipeline'], f'{shown}/{_SETTINGS}')
        return cls(path, *(content[key] for key in _FIELDS))

    @property
    def weights(self) -> Path:
        """File of the state dict."""
        return self.path / _WEIGHTS

    @property
    def card(self) -> str:
        """Text of the model card; '' without one."""
        card = self.path / _CARD
        return card.read_text(encoding='utf-8') if card.is_file() else ''

    def config(self) -> Config:
        """Return a config of the caller's own."""
        from mmengine.config import Config

        settings = dict(model=self.model, test_dataloader=dict(dataset=dict(pipeline=self.pipeline)))
        return Config(json.loads(json.dumps(dict(default_scope='mmdml', **settings))))


def license_texts(path: str | Path) -> dict[str, Path]:
    """Files of the license texts in a model folder by their names without ending."""
    return {file.stem: file for file in sorted(Path(path, _LICENSES).glob('*.txt'))}


def copy_licenses(texts: Mapping[str, str | Path], path: Path) -> None:
    """Copy license texts, files by name, into a model folder."""
    for name, text in texts.items():
        (path / _LICENSES).mkdir(exist_ok=True)
        shutil.copyfile(text, path / _LICENSES / f'{name}.txt')


def write_model_folder(
    path: str | Path,
    config: Config,
    model: ImageEmbedder,
    classes: Sequence[str] = (),
    training: Mapping[str, Any] | None = None,
    card: str = '',
    half: bool = False,
    replace_unfinished: bool = False,
    licenses: Mapping[str, str | Path] | None = None,
) -> ModelFolder:
    """Write a model as a folder; ``model.json``, which makes it one, comes last.

    Args:
        path: of the folder, new or without a model.
        config: with ``model`` and ``test_dataloader.dataset.pipeline``.
        model: built from it, with the weights to write; the head is left out.
        classes: names of the classes that it was trained on.
        training: facts on how it was trained, plain values.
        card: text of ``README.md``.
        half: keep floating-point weights as fp16, at half the size. They are read as fp32 again.
        replace_unfinished: write over the weights and the card of a write to this folder that was cut off.
        licenses: files of license texts by name, to copy.

    Returns:
        The folder, read.

    Raises:
        FileExistsError: there is a model, or part of one, at ``path``.
        ValueError: the config holds what is no plain setting, or the weights do not fit, or not into fp16.
    """
    import torch
    from mmengine.registry import DefaultScope

    from mmdml.apis.torch_embedder import embedding_hash
    from mmdml.compat.load_weights import load_weights
    from mmdml.registry import MODELS

    path = Path(path)
    names = [_SETTINGS] if replace_unfinished else [_SETTINGS, _WEIGHTS, _CARD]
    there = [name for name in names if os.path.lexists(path / name)]
    if there:
        raise FileExistsError(f'{printable((path / there[0]).absolute())} exists already; choose another folder')
    layers = plain_settings(config.model.to_dict())
    layers.pop('head', None)
    pipeline = [plain_settings(each) for each in config.test_dataloader.dataset.pipeline]
    check_settings(layers, pipeline, 'the config')
    state = embedding_weights(model, half)
    with DefaultScope.overwrite_default_scope('mmdml'):
        embedder = MODELS.build(json.loads(json.dumps(layers)))
    load_weights(embedder, state)
    path.mkdir(parents=True, exist_ok=True)
    # The same weights have the same hash: their order is that of their names, not of the file that they came from, and
    # an archive that is written to a file would hold the name of that.
    archive = io.BytesIO()
    torch.save(dict(state_dict=dict(sorted(state.items()))), archive)
    with write_atomically(path / _WEIGHTS) as file:
        file.write(archive.getvalue())
    with write_atomically(path / _CARD, 'w', encoding='utf-8') as file:
        file.write(card)
    copy_licenses(licenses or {}, path)
    content = dict(
        format=FORMAT,
        model=layers,
        pipeline=pipeline,
        model_hash=embedding_hash(embedder, pipeline),
        weights_hash=_sha256(path / _WEIGHTS),
        classes=list(classes),
        training=dict(training or {}),
    )
    with write_atomically(path / _SETTINGS, 'w', encoding='utf-8') as file:
        file.write(json.dumps(content, indent=1) + '\n')
    return ModelFolder.read(path)


def embedding_weights(model: ImageEmbedder, half: bool = False) -> dict[str, torch.Tensor]:
    """Return copies of all weights but those of the head, also those that an adapted backbone does not train.

    Args:
        model: the embedder.
        half: round floating-point weights to fp16.

    Raises:
        ValueError: a weight is too large for fp16.
    """
    from mmdml.models.backbones.adapters import AdaptedBackbone

    whole = {key: value for key, value in model.state_dict().items() if not key.startswith('head.')}
    if isinstance(model.backbone, AdaptedBackbone):
        whole = {key: value for key, value in whole.items() if not key.startswith('backbone.')}
        whole |= {f'backbone.{key}': value for key, value in model.backbone.all_weights().items()}
    state = {key: value.detach().cpu().clone() for key, value in whole.items()}
    if not half:
        return state
    rounded = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    for key, value in rounded.items():
        if value.isinf().any() and state[key].isfinite().all():
            largest = state[key].abs().max().item()
            raise ValueError(f'{key} has the value {largest:.6g}, above 65504, the largest of fp16; keep fp32 (--full)')
    return rounded


def _sha256(path: Path) -> str:
    state = path.stat()
    return _sha256_of(path.absolute(), state.st_ino, state.st_size, state.st_mtime_ns)


@cache
def _sha256_of(path: Path, *state: int) -> str:
    """SHA-256 of a file in some state: a command reads the folder of its model several times."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
