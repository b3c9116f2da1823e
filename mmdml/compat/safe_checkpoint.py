"""Checkpoints are loaded as data: none may run code, whatever path it comes by.

MMEngine first tries to load a checkpoint with weights-only unpickling and, where that is refused, unpickles it fully;
what it downloads it always unpickles fully. A hostile file thus runs code in ``tools/test.py``, ``--resume``,
``load_from`` and ``init_cfg`` alike. Every loader of MMEngine (local, http, torchvision, open-mmlab, mmcls, pavi, s3)
ends in one of two functions of ``mmengine.runner.checkpoint``, and :func:`register_safe_loaders` replaces these two.

A config that a checkpoint carries as text is code, too: ``Runner.resume`` and ``BaseInferencer`` run it as a Python
file. The loaders take such texts out of what they return.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pickle import UnpicklingError
from types import ModuleType
from typing import Any
from urllib.error import URLError

# What MMEngine's loaders raise where a file or the network is missing.
_MISSING = (URLError, HTTPException, ConnectionError, TimeoutError, FileNotFoundError)
# Texts that MMEngine passes to ``Config.fromstring``, which runs them.
_CONFIG_TEXTS = (('meta', 'config'), ('meta', 'cfg'), ('message_hub', 'runtime_info', 'cfg'))
# torch names what it refused in one of: "GLOBAL os.system", "<built-in function eval>", "<class 'a.B'>".
_REFUSED_GLOBAL = re.compile(r'(?:GLOBAL |function (?:<[\w ]*function |<class \'|))([\w.]+)')


class UnsafeCheckpointError(RuntimeError):
    """A checkpoint holds something other than weights and plain values, and was refused before it could run code."""


def register_safe_loaders(checkpoint: ModuleType) -> None:
    """Make every checkpoint loader of MMEngine refuse what is not data. Calling it again changes nothing.

    Afterwards ``CheckpointLoader.load_checkpoint`` raises :class:`UnsafeCheckpointError` for a file that names any
    global outside torch's and MMEngine's allow-lists.

    Args:
        checkpoint: The module ``mmengine.runner.checkpoint``, right after its import.
    """
    checkpoint._safe_torch_load = safe_torch_load
    checkpoint.load_url = _safe_load_url


def safe_torch_load(file: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
    """Load a checkpoint with weights-only unpickling and nothing else.

    Args:
        file: Path or binary file object.
        map_location: As in ``torch.load``.
        weights_only: Only for the signature of the function that this one replaces; ``False`` is refused.

    Returns:
        What the checkpoint holds, without the text of its config.

    Raises:
        UnsafeCheckpointError: If the file names a global outside the allow-list.
        RuntimeError: If the file is damaged, or cannot be placed on ``map_location``.
        ValueError: If ``weights_only`` is ``False``.
    """
    if weights_only is False:
        raise ValueError('weights_only=False would let a checkpoint run code; mmdml loads with weights_only=True')
    import torch

    return _load_as_data(
        lambda: torch.load(file, map_location=map_location, weights_only=True), source=getattr(file, 'name', file)
    )


def _safe_load_url(url: str, *args: Any, **kwargs: Any) -> Any:
    from torch.hub import load_state_dict_from_url

    try:
        # torch.hub unpickles fully by default.
        return _load_as_data(lambda: load_state_dict_from_url(url, *args, **{**kwargs, 'weights_only': True}), url)
    except _MISSING as error:
        error.weights = url  # the address is not in the message of a failed connection
        raise


def _load_as_data(load: Callable[[], Any], source: Any) -> Any:
    import torch

    try:
        with torch.serialization.safe_globals(_allowed_globals()):
            return _without_config_texts(load())
    except OSError:  # no file, no network: not the fault of what the file holds
        raise
    except UnpicklingError as error:
        raise UnsafeCheckpointError(_refusal(source, str(error))) from None
    except Exception as error:  # bytes that are no pickle make the unpickler fail in any way
        raise RuntimeError(f'{source} could not be loaded as a checkpoint: {type(error).__name__}: {error}') from error


def _without_config_texts(content: Any) -> Any:
    for *path, last in _CONFIG_TEXTS:
        place = content
        for key in path:
            place = place.get(key) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.pop(last, None)
    return content


def _allowed_globals() -> list[Any]:
    """MMEngine's allow-list, with ``getattr`` narrowed to the one use that its own checkpoints make of it."""
    from mmengine.runner.checkpoint import get_torch_safe_globals

    others = [entry for entry in get_torch_safe_globals() if entry is not getattr]
    return [*others, (_history_buffer_method, 'builtins.getattr')]


def _history_buffer_method(owner: Any, name: str) -> Any:
    """Stand in for ``getattr`` while unpickling.

    A pickled ``HistoryBuffer`` names its methods by ``getattr(HistoryBuffer, 'mean')``. The true ``getattr`` would also
    hand out ``getattr.__self__.eval``.
    """
    from mmengine.logging.history_buffer import HistoryBuffer

    if owner is not HistoryBuffer or name.startswith('_'):
        raise UnpicklingError(f'GLOBAL {getattr(owner, "__name__", type(owner).__name__)}.{name} was not allowed')
    return getattr(owner, name)


def _refusal(source: Any, reason: str) -> str:
    found = _REFUSED_GLOBAL.search(reason)
    if found is None:
        # Between torch's advice to load unsafely stands what it met.
        met = reason.partition('WeightsUnpickler error:')[2].strip().partition('\n')[0] or reason.partition('\n')[0]
        return f'{source} was refused: it is damaged, or no file written by torch.save ({met})'
    return (
        f'{source} was refused: it refers to {found.group(1)}, which is neither a weight nor a plain value, and could '
        'run code. Get the weights from a source you trust; if you made this file yourself, save it again with only '
        "tensors, numbers, strings, lists and dicts, for example torch.save({'state_dict': model.state_dict()}, path)"
    )


@contextmanager
def explain_missing_weights(weights: str | None = None) -> Iterator[None]:
    """Turn "no such file" and "no network" while initial weights are loaded into an error that says what to do.

    Args:
        weights: What the config names; by default the address or the message of the failure.

    Raises:
        RuntimeError: In place of a ``URLError``, a lost connection, a timeout or a ``FileNotFoundError``.

    Example:
        >>> with explain_missing_weights('torchvision://resnet50'):
        ...     model.backbone.init_weights()
    """
    try:
        yield
    except _MISSING as error:
        address = getattr(error, 'weights', None)
        cause = 'there is no such file' if isinstance(error, FileNotFoundError) else 'the network cannot be reached'
        named = weights if weights is not None else address or str(error)
        at = f' ({address})' if weights is not None and address is not None else ''
        raise RuntimeError(
            f'The pretrained weights {named}{at} could not be loaded: {cause} [{error}]. Download the file elsewhere '
            'and pass --cfg-options model.backbone.init_cfg.checkpoint=/path/to/file.pth, or train from scratch with '
            '--cfg-options model.backbone.init_cfg=None'
        ) from error
