"""Training behind a frozen backbone: pictures become features once, and the trained neck joins the backbone again."""

import copy
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope

from mmdml.apis import ImageEmbeddingInferencer
from mmdml.apis.model_folder import embedding_weights
from mmdml.apis.models import build_untrained
from mmdml.compat.load_weights import load_weights
from mmdml.compat.weight_files import read_weights
from mmdml.datasets import RetrievalDataset
from mmdml.engine.hooks.console_hook import SCORES_BEFORE, score_model, scores_as_text
from mmdml.engine.runner import MetricLearningRunner
from mmdml.functional.embedding_files import write_embeddings
from mmdml.models import EmbeddingNeck, ImageEmbedder
from mmdml.registry import DATASETS, MODELS
from mmdml.structures import RowFacts
from mmdml.utils.console import show
from mmdml.utils.files import write_atomically
from mmdml.utils.names import printable


def is_frozen(cfg: Config) -> bool:
    """Whether a recipe trains on features."""
    return 'features' in cfg


def make_features(cfg: Config) -> None:
    """Embed all pictures of a recipe by its backbone; a file that is there, as of a run that goes on, stays.

    Beside it lies a list of the pictures that it was made of.

    Args:
        cfg: of the recipe; rows go to ``cfg.features``, pooled, of length 1.

    Raises:
        ValueError: a picture or that list cannot be read, or the pictures are others than those that the file was made
            of.
    """
    path, listed = Path(cfg.features), Path(cfg.features).with_name('pictures.json')
    dataset = DATASETS.build(dict(**cfg.data, split='test', test_mode=True))
    infos = [dataset.get_data_info(row) for row in range(len(dataset))]
    pictures = _pictures(infos, dataset.metainfo['classes'])
    if path.is_file() and listed.is_file():
        _require_same(pictures, _read_pictures(listed), path)
        return
    show(f'the backbone of the model {printable(cfg.model_name)} embeds every picture once')
    path.parent.mkdir(parents=True, exist_ok=True)
    model = _backbone(cfg)
    # Kept: the model gets the weights that made its features, whatever becomes of the file that they come from.
    torch.save(dict(state_dict=embedding_weights(model)), _backbone_file(cfg))
    with write_atomically(listed, 'w', encoding='utf-8') as file:
        json.dump(pictures, file)
    embed = ImageEmbeddingInferencer(
        model.to(get_device()), pipeline=cfg.test_pipeline, workers=max(1, cfg.num_workers)
    )
    found = embed([info['img_path'] for info in infos])
    if found.unreadable:
        first = found.unreadable[0]
        raise ValueError(f'{printable(first.name)} cannot be read: {first.reason}')
    write_embeddings(str(path), found.embeddings, facts_of(dataset), embed.model_hash)


def facts_of(dataset: RetrievalDataset) -> RowFacts:
    """Return what a file of features says of the pictures of a data set, in its order."""
    infos = [dataset.get_data_info(row) for row in range(len(dataset))]
    return RowFacts.of(
        labels=dataset.labels,
        roles=[info['role'] for info in infos],
        paths=[info['img_path'] for info in infos],
        class_names=dataset.metainfo['classes'],
    )


def _pictures(infos: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> list[list[Any]]:
    """Return path, class, role, size and time of change of each picture."""
    states = [os.stat(info['img_path']) for info in infos]
    return [
        [info['img_path'], classes[info['gt_label']], info['role'], state.st_size, state.st_mtime_ns]
        for info, state in zip(infos, states, strict=True)
    ]


def _read_pictures(listed: Path) -> list[list[Any]]:
    try:
        pictures = json.loads(listed.read_text(encoding='utf-8'))
        kinds = {tuple(map(type, row)) for row in pictures}
    except (ValueError, TypeError) as error:
        found = str(error)
    else:
        if kinds <= {(str, str, int, int, int)}:
            return pictures
        found = 'it holds other things than pictures'
    raise ValueError(
        f'{printable(listed)} cannot be read, it is damaged ({printable(found)}): remove it, and the pictures are '
        'embedded again, or leave --resume out to begin another run'
    )


def _require_same(now: list[list[Any]], before: list[list[Any]], features: Path) -> None:
    if now == before:
        return
    known = set(map(tuple, before))
    changed = [row[0] for row in now if tuple(row) not in known]
    gone = sorted({row[0] for row in before} - {row[0] for row in now})
    first = next(iter([*changed, *gone]), now[0][0])
    raise ValueError(
        f'{printable(first)} is new, gone, changed or in another class since {printable(features)} was made, from '
        'which this run learns: leave --resume out to begin another run'
    )


def score_features(runner: MetricLearningRunner, cfg: Config) -> None:
    """Score the features of the held-out classes, by the metrics of the recipe, as the scores before the training.

    Args:
        runner: of the recipe.
        cfg: of the recipe.
    """
    with DefaultScope.overwrite_default_scope('mmdml'):
        untouched = MODELS.build(dict(cfg.model.to_dict(), neck=_identity(cfg), head=None))
    scores = score_model(runner.val_loop, untouched.to(get_device()))
    runner.message_hub.update_info(SCORES_BEFORE, scores)
    show(f'before training: {scores_as_text(scores)} (the features themselves)')


def joined(cfg: Config, neck: EmbeddingNeck) -> tuple[Config, ImageEmbedder]:
    """Return the model for pictures, and its config: the backbone, unit features, and a neck that was trained on them.

    Args:
        cfg: of the recipe.
        neck: trained.
    """
    with DefaultScope.overwrite_default_scope('mmdml'):
        model = MODELS.build(_layers(cfg, _identity(cfg)))
    load_weights(model, read_weights(str(_backbone_file(cfg))))
    model.neck = copy.deepcopy(neck).cpu()
    layers = _layers(cfg, cfg.model.neck.to_dict())
    return Config(dict(model=layers, test_dataloader=dict(dataset=dict(pipeline=cfg.test_pipeline)))), model.eval()


def _backbone(cfg: Config) -> ImageEmbedder:
    """Build the embedder of a recipe with its weights, unit features, and no embedding layer."""
    with DefaultScope.overwrite_default_scope('mmdml'):
        settings = dict(cfg.embedder.to_dict(), head=None)
        source = MODELS.build(settings) if cfg.weights else build_untrained(settings, cfg.seed)
        if cfg.weights:
            load_weights(source, read_weights(cfg.weights))
        model = MODELS.build(_layers(cfg, _identity(cfg)))
    model.backbone, model.pooling.pooling = source.backbone, source.pooling
    return model


def _backbone_file(cfg: Config) -> Path:
    return Path(cfg.features).with_name('backbone.pth')


def _identity(cfg: Config) -> dict[str, Any]:
    return dict(type='IdentityEmbedding', in_channels=cfg.feature_width)


def _layers(cfg: Config, neck: dict[str, Any]) -> dict[str, Any]:
    settings = cfg.embedder.to_dict()
    pooling = settings.get('pooling') or dict(type='GlobalAveragePooling')
    return dict(settings, pooling=dict(type='UnitPooling', pooling=pooling), neck=neck)
