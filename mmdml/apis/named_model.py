"""A model that was named and is not built yet."""

# Nothing here imports torch: listing names takes no seconds.
from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmdml.utils.names import printable

if TYPE_CHECKING:
    from mmengine.config import Config

#: After ``MODEL:`` in place of a checkpoint: the pretrained backbone that the config names, nothing trained.
UNTRAINED = 'untrained'
# Kinds whose names are paths. A folder that is called default does not change what that name means.
_PATHS = ('exported', 'config', 'folder')
# What parts raise for settings that they lack or refuse.
_REFUSALS = (TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError, RuntimeError)


@dataclass(frozen=True)
class NamedModel:
    """A model before it is built.

    Attributes:
        name: as it was given.
        kind: name of an entry of :data:`~mmdml.apis.model_names.KINDS`.
        read_config: returns a config of the caller's own, with ``model`` and ``test_dataloader.dataset.pipeline``; None
            for an exported file, which has none.
        weights: path or address of the weights that belong to the name; '' for none.
        initialized: in place of those, the pretrained weights that the parts of the config name belong to it.
        exported: path of an exported file; '' for a model of torch.
        folder: path of a model folder, also of the one that ships for a name of the index; '' for anything else.
    """

    name: str
    kind: str
    read_config: Callable[[], Config] | None
    weights: str = ''
    initialized: bool = False
    exported: str = ''
    folder: str = ''

    def require_weights(self) -> None:
        """Check that the name says with which weights.

        Raises:
            ValueError: otherwise.
        """
        if not (self.weights or self.initialized or self.exported):
            raise ValueError(
                f'no weights were published for {self.name}; write MODEL:CHECKPOINT, or pass '
                'pretrained="/path/to/checkpoint.pth", for weights of your own; MODEL:untrained, or pretrained=False, '
                'takes the model without training'
            )

    def require_pictures(self) -> None:
        """Check that the model takes pictures.

        Raises:
            ValueError: it takes features.
        """
        if self.read_config is None:
            return
        preprocessor = self.config.get('model', {}).get('data_preprocessor') or {}
        if str(preprocessor.get('type', '')).endswith('FeaturePreprocessor'):
            raise ValueError(features_only(self.name))

    @contextmanager
    def building(self) -> Iterator[None]:
        """Name the file of a model folder in errors of parts that are built from its settings.

        Raises:
            ValueError: in place of what a part of a folder raises for a setting that it lacks or refuses.
        """
        try:
            yield
        except _REFUSALS as error:
            if not self.folder:
                raise
            reason = error.args[0] if error.args else type(error).__name__
            raise ValueError(f'{printable(self.folder)}/model.json: {reason}') from error

    @property
    def absolute(self) -> str:
        """The name with absolute paths, which means the same from any folder."""
        # A path may hold a colon.
        base, colon, weights = (self.name, '', '') if os.path.exists(self.name) else self.name.partition(':')
        if self.kind in _PATHS and os.path.exists(base):
            base = os.path.abspath(base)
        if weights != UNTRAINED and os.path.exists(weights):
            weights = os.path.abspath(weights)
        return f'{base}{colon}{weights}'

    @property
    def config(self) -> Config:
        """A config that may be changed.

        Raises:
            ValueError: for an exported file.
        """
        if self.read_config is None:
            raise ValueError(
                f'{self.name} is an exported model: it embeds pictures, and has no layers to build, train or export; '
                'name the model that it was exported from'
            )
        return self.read_config()


def features_only(name: str) -> str:
    """Return what to say of a model of features where pictures are embedded."""
    return (
        f'{name} takes features of a frozen backbone, not pictures: join it with that backbone by '
        'tools/model_converters/join_backbone.py (configs/features/README.md), or train on a folder by mmdml train, '
        'which joins both'
    )
