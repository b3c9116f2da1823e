"""Write a model as a file that other engines run, and compare it with the model."""

import importlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from mmdml.export.embedding_graph import EmbeddingGraph
from mmdml.export.exported_embedder import VERSION
from mmdml.export.pipeline_steps import test_images
from mmdml.export.preparation import Preparation
from mmdml.export.runtimes import FACTS_KEY, RUNTIMES
from mmdml.models import ImageEmbedder

#: Cosine between an embedding of the model and of the file, below which nothing is written.
LEAST_COSINE = 0.9999
#: Batches that are compared; more than one, because their number must not be fixed in the file.
_BATCHES = (1, 3, 8)
_ROUNDS = 5


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how it compares.

    Attributes:
        path: of the file.
        size: of all its files together, in bytes.
        lowest_cosine: between embeddings of the model and of the file.
        compared: pictures that were embedded by both.
        latency: ``(batch size, milliseconds a batch in torch, in the engine)``, the fastest of five on the
            CPU.
    """

    path: str
    size: int
    lowest_cosine: float
    compared: int
    latency: list[tuple[int, float, float]]


def export_embedder(
    model: ImageEmbedder,
    preparation: Preparation,
    path: str | Path,
    name: str,
    model_hash: str,
    batch_sizes: Sequence[int] = (1, 16),
) -> ExportReport:
    """Write a model with the normalization of pixels and of embeddings, for batches of any size.

    The file appears when its embeddings agree with the model's. The decoding, resizing and cropping of pictures stay
    outside of the graph; the file says how they are done.

    Args:
        model: the embedder.
        preparation: from pictures to its input.
        path: of the file; the ending decides: ``.onnx``, ``.pt2`` (torch.export) or ``.xml`` (OpenVINO).
        name: of the model, which the file keeps.
        model_hash: of the model and its pre-processing, which the file keeps.
        batch_sizes: of which latencies are measured.

    Raises:
        ValueError: another ending; a model that cannot be exported; embeddings that differ.
        ImportError: a package that is needed is not installed.
        OSError: the file cannot be written.
    """
    path = os.fspath(path)
    writer = _WRITERS.get(os.path.splitext(path)[1].lower())
    if writer is None:
        raise ValueError(f'{path} must end in one of {", ".join(_WRITERS)}')
    writer.require()
    device = next(model.parameters()).device
    graph = EmbeddingGraph(model.cpu())
    height, width, channels = preparation.shape
    images = np.stack(test_images(channels == 1, [(width, height)] * max(_BATCHES))).reshape(-1, *preparation.shape)
    try:
        with torch.no_grad():
            wanted = graph(torch.from_numpy(images)).numpy()
        facts = dict(
            version=VERSION,
            name=name,
            model_hash=model_hash,
            dimensions=wanted.shape[1],
            preparation=preparation.as_dict(),
        )
        folder = os.path.dirname(os.path.abspath(path))
        with tempfile.TemporaryDirectory(dir=folder, prefix='.export-') as beside:
            draft = os.path.join(beside, os.path.basename(path))
            run = writer(_program(graph, images), draft, json.dumps(facts))
            lowest = _lowest_cosine(run, images, wanted, path)
            latency = [(size, *_latencies(graph, run, images, size)) for size in batch_sizes]
            files = sorted(os.listdir(beside), key=lambda each: each == os.path.basename(path))
            size = sum(os.path.getsize(os.path.join(beside, file)) for file in files)
            # The named file last: it is there when all is there.
            for file in files:
                os.replace(os.path.join(beside, file), os.path.join(folder, file))
    finally:
        model.to(device)
    return ExportReport(path, size, lowest, len(images) * len(_BATCHES), latency)


def _program(graph: nn.Module, images: np.ndarray) -> ExportedProgram:
    try:
        with torch.no_grad():
            return torch.export.export(
                graph, (torch.from_numpy(images[:2]),), dynamic_shapes=dict(images={0: Dim.DYNAMIC}), strict=False
            )
    except Exception as error:
        # torch.export has errors of many kinds for code that it cannot trace.
        raise ValueError(f'torch.export cannot trace this model: {_first_line(error)}') from error


def _lowest_cosine(run: Callable, images: np.ndarray, wanted: np.ndarray, path: str) -> float:
    lowest = 1.0
    for size in _BATCHES:
        found = np.concatenate([run(images[at : at + size]) for at in range(0, len(images), size)])
        if found.shape != wanted.shape:
            raise ValueError(f'{path}: embeddings have shape {found.shape}, those of the model {wanted.shape}')
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
        # NaN stays NaN, which the comparison below refuses; min() of Python would drop it.
        lowest = float(np.minimum(lowest, ((found * wanted).sum(axis=1) / lengths).min()))
    if not lowest > LEAST_COSINE:
        raise ValueError(
            f'{path} was not written: its embeddings differ from those of the model, lowest cosine {lowest:.6f}, must '
            f'be above {LEAST_COSINE}'
        )
    return lowest


def _latencies(graph: nn.Module, run: Callable, images: np.ndarray, size: int) -> tuple[float, float]:
    """Milliseconds that a batch takes in torch and in the engine; in turns, so that a busy machine slows both."""
    batch = np.resize(images, (size, *images.shape[1:]))
    tensor, times = torch.from_numpy(batch), ([], [])
    with torch.no_grad():
        for _ in range(_ROUNDS):
            for spent, call in zip(times, (lambda: graph(tensor), lambda: run(batch)), strict=True):
                start = time.perf_counter()
                call()
                spent.append(1e3 * (time.perf_counter() - start))
    return min(times[0]), min(times[1])


class _Writer:
    """Writes a program and returns what runs the file, ``images -> embeddings``."""

    #: Module -> the extra of mmdml that brings it.
    needs: dict[str, str] = {}

    def require(self) -> None:
        for module, extra in self.needs.items():
            try:
                importlib.import_module(module)
            except ImportError as error:
                raise ImportError(f"export needs {module}: pip install 'mmdml[{extra}]' ({error})") from error


class _Onnx(_Writer):
    needs = dict(onnx='onnx', onnxscript='onnx', onnxruntime='onnx')

    def __call__(self, program: ExportedProgram, path: str, facts: str) -> Callable:
        _write_onnx(program, path, facts)
        return RUNTIMES['.onnx'](path, 'cpu')


class _OpenVino(_Writer):
    needs = dict(onnx='onnx', onnxscript='onnx', openvino='openvino')

    def __call__(self, program: ExportedProgram, path: str, facts: str) -> Callable:
        import openvino

        with tempfile.TemporaryDirectory() as folder:
            onnx = os.path.join(folder, 'model.onnx')
            _write_onnx(program, onnx, facts)
            model = openvino.convert_model(onnx)
        model.set_rt_info(facts, FACTS_KEY)
        openvino.save_model(model, path, compress_to_fp16=False)
        return RUNTIMES['.xml'](path, 'cpu')


class _TorchExport(_Writer):
    def __call__(self, program: ExportedProgram, path: str, facts: str) -> Callable:
        torch.export.save(program, path, extra_files={FACTS_KEY: facts})
        module = torch.export.load(path).module()

        def run(images: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return module(torch.from_numpy(images)).numpy()

        return run


_WRITERS: dict[str, Any] = {'.onnx': _Onnx(), '.pt2': _TorchExport(), '.xml': _OpenVino()}


def _write_onnx(program: ExportedProgram, path: str, facts: str) -> None:
    import onnx

    try:
        written = torch.onnx.export(program, input_names=['images'], output_names=['embeddings'], verbose=False)
    except Exception as error:
        # As above: an operator without ONNX counterpart has no error of its own.
        raise ValueError(f'this model has no ONNX form: {_first_line(error)}') from error
    model = written.model_proto
    inputs, outputs = model.graph.input[0], model.graph.output[0]
    for dimension in (inputs.type.tensor_type.shape.dim[0], outputs.type.tensor_type.shape.dim[0]):
        dimension.dim_param = 'batch'
    model.metadata_props.add(key=FACTS_KEY, value=facts)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition('\n')[0] or type(error).__name__
