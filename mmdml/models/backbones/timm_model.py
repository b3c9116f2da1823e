"""Models of timm as backbones that pool for themselves."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmdml.registry import MODELS

# Seconds in which the hub of the weights must answer.
_HUB_SECONDS = 5.0


@MODELS.register_module()
class TimmModel(BaseModule):
    """A model of timm without its classifier: pooled and normalized as timm does it, ``(B, 3, H, W) -> (B, C)``.

    ``init_weights`` loads the pretrained weights, over the network unless they are in the cache of timm.
    ``mmpretrain.TIMMBackbone`` gives maps or tokens instead, for poolings of mmdml.

    Args:
        model_name: as ``timm.list_models()`` has it.
        checkpoint: file of weights in timm's layout, in place of the ones from the network.
        options: more arguments of ``timm.create_model``, such as ``img_size``.

    Attributes:
        out_channels: width C of the features.

    Raises:
        ImportError: timm is not installed.
        ValueError: timm has no model of this name.

    Config::

        backbone=dict(type='TimmModel', model_name='vit_small_patch14_dinov2.lvd142m')
    """

    def __init__(self, model_name: str, checkpoint: str | None = None, **options: Any) -> None:
        super().__init__()
        self.model_name = model_name
        self.checkpoint = checkpoint
        self.timm_model = create_timm_model(model_name, **options)
        self.out_channels: int = getattr(self.timm_model, 'head_hidden_size', None) or self.timm_model.num_features
        self._options = options

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the features."""
        return self.timm_model(inputs)

    def init_weights(self) -> None:
        """Load the pretrained weights.

        Raises:
            RuntimeError: they can neither be found in the cache nor downloaded.
            FileNotFoundError: there is no ``checkpoint``.
        """
        source = {} if self.checkpoint is None else dict(pretrained_cfg_overlay=dict(file=self.checkpoint))
        with _hub() if self.checkpoint is None else nullcontext('') as unreachable:
            try:
                loaded = create_timm_model(self.model_name, pretrained=True, **source, **self._options)
            except (OSError, RuntimeError) as error:
                # Without network the hub raises one as well, of which the name of the file is no part.
                if self.checkpoint is not None and isinstance(error, FileNotFoundError):
                    raise
                reason = unreachable or f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'
                raise RuntimeError(
                    f'the weights of timm/{self.model_name} could not be loaded ({reason}). '
                    f'Without network, get the file elsewhere and write timm/{self.model_name}:FILE'
                ) from error
        self.timm_model.load_state_dict(loaded.state_dict())


@contextmanager
def _hub() -> Iterator[str]:
    """Load from the cache alone where the hub of the weights does not answer; it would be tried for a minute.

    Yields:
        Why it does not answer; '' if it does.
    """
    from huggingface_hub import constants, get_session

    before, unreachable = constants.HF_HUB_OFFLINE, ''
    if not before:
        try:
            get_session().head(constants.ENDPOINT, timeout=_HUB_SECONDS)
        except Exception as error:  # the library that connects, and its errors, depend on the version of the hub
            unreachable = f'they are not in the cache, and {constants.ENDPOINT} does not answer: {error}'
    constants.HF_HUB_OFFLINE = before or bool(unreachable)
    try:
        yield unreachable
    finally:
        constants.HF_HUB_OFFLINE = before


def create_timm_model(name: str, **options: Any) -> torch.nn.Module:
    """Return a model of timm without classifier.

    Args:
        name: as ``timm.list_models()`` has it.
        options: of ``timm.create_model``.

    Raises:
        ImportError: timm is not installed.
        ValueError: timm has no model of this name.
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError(f"timm/{name} needs timm: pip install 'mmdml[timm]' ({error})") from error
    if not timm.is_model(name):
        known = {*timm.list_models(), *timm.list_models(pretrained=True)}
        near = difflib.get_close_matches(name, sorted(known), n=3)
        hint = f'; the nearest are {", ".join(near)}' if near else "; mmdml list 'timm/*' has all"
        raise ValueError(f'timm {timm.__version__} has no model {name!r}{hint}')
    return timm.create_model(name, num_classes=0, **options)
