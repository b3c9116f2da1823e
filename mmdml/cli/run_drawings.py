"""Pictures of IAA and D&C from the checkpoint of a run."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.registry import init_default_scope

from mmdml.cli.launch import read_config
from mmdml.compat.load_weights import load_weights
from mmdml.engine.checkpoints import CheckpointFolder
from mmdml.engine.sweep import sweep
from mmdml.registry import DATASETS, FUNCTIONS, MODELS
from mmdml.structures import Progress
from mmdml.utils.names import printable
from mmdml.visualization.methods import METHOD_KINDS, drawn_methods, estimating_generator
from mmdml.visualization.tiles import write_picture

_LAST = 'name the last checkpoint of the run, epoch_N.pth'


def checkpoint_of_run(folder: str) -> tuple[str, str]:
    """Return config and newest checkpoint of a run of ``mmdml train FOLDER``.

    Raises:
        FileNotFoundError: the folder holds no such run, or no checkpoint.
    """
    recipe, training = Path(folder, 'recipe.py'), Path(folder, 'training')
    newest = CheckpointFolder(training).newest_whole()[0]
    if newest is None:
        raise FileNotFoundError(f'{printable(training)} holds no whole checkpoint epoch_N.pth')
    return str(recipe), str(newest)


def draw_run(config: str, checkpoint: str, out: str, kinds: Sequence[str] = (), seed: int = 0) -> list[str]:
    """Draw the clusters (D&C) and the synthetic rows (IAA) that a checkpoint holds, of the config's training set.

    Args:
        config: path.
        checkpoint: path; of a run, not of weights alone.
        out: folder for ``<kind>.png``.
        kinds: names of :data:`~mmdml.visualization.methods.METHOD_KINDS`. Default: all that there are.
        seed: of the choice.

    Returns:
        The files.

    Raises:
        ValueError: an unknown kind, weights alone, a checkpoint of another config, or one with nothing to draw.
    """
    unknown = [kind for kind in kinds if kind not in METHOD_KINDS]
    if unknown:
        raise ValueError(f'there is no picture {unknown[0]!r} of a run; there are {", ".join(METHOD_KINDS)}')
    images = {name: image for name, image in _images(config, checkpoint, seed) if not kinds or name in kinds}
    if not images:
        raise ValueError(
            f'{printable(checkpoint)} has nothing to draw of {", ".join(kinds or METHOD_KINDS)}: its run has neither '
            'IAA with an estimate nor D&C with clusters; what a model retrieves is drawn from the file that '
            "'mmdml test FOLDER --model MODEL --out test.npz' writes"
        )
    Path(out).mkdir(parents=True, exist_ok=True)
    return [write_picture(Path(out) / f'{name}.png', image) for name, image in images.items()]


def _images(config: str, checkpoint: str, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    from mmengine.runner.checkpoint import _load_checkpoint

    cfg = read_config(config, {})
    init_default_scope(cfg.get('default_scope', 'mmdml'))
    saved = _load_checkpoint(checkpoint, map_location='cpu', logger='silent')
    if 'mmdml' not in saved:
        raise ValueError(f'{printable(checkpoint)} holds weights only; {_LAST}')
    state = saved['mmdml']
    model = MODELS.build(cfg.model)
    load_weights(model, saved['state_dict'])
    for name, part in model.named_modules():
        if hasattr(part, 'load_run_state') and f'model.{name}' in state:
            part.load_run_state(state[f'model.{name}'])
    divisions = [each for name, each in state.items() if name.startswith('hook.DivisionHook')]
    clusters = divisions[0].get('clusters') if divisions else None
    generator = estimating_generator(model)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    if state['run']['training images'] != len(dataset):
        raise ValueError(
            f'{printable(config)} has {len(dataset):,} training images, the run of {printable(checkpoint)} had '
            f'{state["run"]["training images"]:,}'
        )
    embeddings = None if generator is None else _embeddings(cfg, model.to(get_device()), dataset)
    yield from drawn_methods(dataset, clusters, generator, embeddings, _progress(cfg, saved, state), seed)


def _embeddings(cfg: Any, model: torch.nn.Module, dataset: Any) -> Any:
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader') or cfg.train_dataloader
    collate = FUNCTIONS.get(cfg.train_dataloader.get('collate_fn', dict(type='default_collate'))['type'])
    return sweep(model, dataset.with_pipeline(loader.dataset.get('pipeline')), loader.batch_size, collate_fn=collate)


def _progress(cfg: Any, saved: dict[str, Any], state: dict[str, Any]) -> Progress:
    length = state['run']['batches an epoch']
    epochs = cfg.train_cfg.get('max_epochs')
    last = cfg.train_cfg.max_iters if epochs is None else epochs * length
    # The last update that was made: after the end of a run there is no next one.
    return Progress(max(0, min(saved['meta']['iter'], last) - 1), last, length)
