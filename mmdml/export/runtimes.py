"""Engines that run exported files, by the ending of the file's name. Each is imported when it is needed."""

import importlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from mmdml.utils.machine import available_cores

#: Where the facts about the model are in a file.
FACTS_KEY = 'mmdml'


def _imported(module: str, extra: str, path: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{path} needs {module}: pip install 'mmdml[{extra}]' ({error})") from error


class OnnxRuntime:
    """An ``.onnx`` file in onnxruntime.

    Args:
        path: of the file.
        device: ``'cpu'``, ``'cuda'`` or ``'cuda:1'``. Default: a GPU where onnxruntime has one.

    Raises:
        ImportError: onnxruntime is not installed.
        ValueError: the file cannot be read, or onnxruntime lacks the device.
    """

    def __init__(self, path: str, device: str | None = None) -> None:
        onnxruntime = _imported('onnxruntime', 'onnx', path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_cores()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(path, options, _providers(onnxruntime, device))
        except Exception as error:
            # onnxruntime has a class of error for each of its states, without a common base.
            if type(error).__module__.partition('.')[0] != 'onnxruntime':
                raise
            reason = str(error).strip().partition('\n')[0]
            raise ValueError(f'{path} cannot be run as an ONNX model: {reason}') from error

    def facts(self) -> str | None:
        """Return what the exporter wrote about the model."""
        return self._session.get_modelmeta().custom_metadata_map.get(FACTS_KEY)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """``(N, H, W, C)`` uint8 -> ``(N, D)`` float32."""
        return self._session.run(['embeddings'], {'images': images})[0]


class OpenVino:
    """An OpenVINO ``.xml`` file, with its ``.bin`` beside it; arguments and errors as of :class:`OnnxRuntime`."""

    def __init__(self, path: str, device: str | None = None) -> None:
        openvino = _imported('openvino', 'openvino', path)
        try:
            core = openvino.Core()
            self._facts = core.read_model(path)
            self._model = core.compile_model(
                self._facts, (device or 'cpu').upper(), dict(INFERENCE_PRECISION_HINT='f32')
            )
        except RuntimeError as error:
            reason = ' '.join(str(error).split())[-300:]
            raise ValueError(f'{path} cannot be run as an OpenVINO model on {device or "cpu"}: {reason}') from error

    def facts(self) -> str | None:
        """Return what the exporter wrote about the model."""
        return self._facts.get_rt_info(FACTS_KEY).astype(str) if self._facts.has_rt_info(FACTS_KEY) else None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """``(N, H, W, C)`` uint8 -> ``(N, D)`` float32."""
        # A request of its own: several threads may embed, and that of the model serves one at a time.
        return np.array(self._model.create_infer_request().infer(images)['embeddings'])


#: Engine of each ending.
RUNTIMES: dict[str, Callable[..., Any]] = {'.onnx': OnnxRuntime, '.xml': OpenVino}


def is_exported(name: object) -> bool:
    """Whether a name, by its ending, is that of an exported file."""
    return isinstance(name, str | os.PathLike) and os.fspath(name).lower().endswith(tuple(RUNTIMES))


def open_runtime(path: str | os.PathLike, device: str | None = None) -> Any:
    """Open an exported file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError, ImportError: see :class:`OnnxRuntime`; an ending that no engine has.
    """
    path = os.fspath(path)
    if not is_exported(path):
        raise ValueError(f'{path} is no exported model: its name ends in none of {", ".join(RUNTIMES)}')
    if not os.path.isfile(path):
        raise FileNotFoundError(f'there is no file {path}')
    return RUNTIMES[os.path.splitext(path)[1].lower()](path, device)


def _providers(onnxruntime: Any, device: str | None) -> list[Any]:
    known = onnxruntime.get_available_providers()
    kind, _, number = (device or ('cuda' if 'CUDAExecutionProvider' in known else 'cpu')).partition(':')
    if kind == 'cpu':
        return ['CPUExecutionProvider']
    if kind != 'cuda' or 'CUDAExecutionProvider' not in known or not (number or '0').isdigit():
        offers = ', '.join(known)
        raise ValueError(f"device={device!r}: onnxruntime offers {offers}; use 'cpu', or 'cuda' with onnxruntime-gpu")
    return [('CUDAExecutionProvider', dict(device_id=int(number or 0))), 'CPUExecutionProvider']
