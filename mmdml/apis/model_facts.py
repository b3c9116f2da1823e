"""What can be said of a model by its name."""

from typing import Any

from mmdml.apis.model_folder import ModelFolder
from mmdml.apis.model_names import find_model


def model_facts(name: str) -> dict[str, Any]:
    """Return kind, weights, layers, dimensions, input, parameters, hash and training of a model.

    The weights are read where they are at hand; those that would be downloaded are not.

    Args:
        name: see :func:`~mmdml.apis.model_names.find_model`.

    Raises:
        FileNotFoundError, ValueError: see :func:`~mmdml.apis.model_names.find_model`.
    """
    named = find_model(name)
    facts: dict[str, Any] = dict(name=name, kind=named.kind)
    if named.exported:
        from mmdml.export import ExportedEmbedder

        exported = ExportedEmbedder(named.exported)
        return facts | dict(dimensions=exported.dimensions, model_hash=exported.model_hash)
    facts['weights'] = named.weights or ('pretrained backbone' if named.initialized else 'none: write NAME:CHECKPOINT')
    facts |= _layers(named)
    if named.folder:
        folder = ModelFolder.read(named.folder)
        facts |= dict(folder=named.folder, model_hash=folder.model_hash)
        if folder.classes:
            facts['classes'] = len(folder.classes)
        facts['training'] = folder.training
    return facts


def _layers(named: Any) -> dict[str, Any]:
    import torch
    from mmengine.registry import DefaultScope

    from mmdml.registry import MODELS

    config = named.config
    scope = DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmdml'))
    settings = {**config.model.to_dict(), 'head': None}
    with scope, named.building():
        try:
            with torch.device('meta'):  # without memory, and without drawing first weights
                model = MODELS.build(settings)
        except RuntimeError:  # Swin, ConvNeXt and others of mmpretrain read the rates of their layers from a tensor
            model = MODELS.build(settings)
    loader = config.get('test_dataloader') or {}
    pipeline = loader.get('dataset', {}).get('pipeline', [])
    steps = [each['type'] + _size(each) for each in pipeline]
    parts = [type(part).__name__ for part in (model.backbone, model.pooling, model.neck)]
    return dict(
        layers=' + '.join(parts),
        dimensions=model.neck.embed_dim,
        parameters=f'{sum(each.numel() for each in model.parameters()):,}',
        pre_processing=', '.join(steps),
    )


def _size(transform: dict[str, Any]) -> str:
    size = transform.get('crop_size', transform.get('scale'))
    return '' if size is None else f' {size}'
