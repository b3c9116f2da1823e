"""What must hold for a config, whether it is a file of ``configs/`` or a list of parts."""

import numpy as np
import torch
from mmpretrain.structures import DataSample

from mmdml import registry
from mmdml.cli.config_check import check_config
from mmdml.structures import ColumnReader, Progress, StepContext
from mmdml.utils.dataset_configs import leaf_datasets


def assert_parts_exist_and_agree(cfg):
    """The parts of a config are registered and fit each other, and the check of the commands takes it."""
    check_config(cfg)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert registry.DATASETS.get(loader.dataset.type) and registry.DATA_SAMPLERS.get(loader.sampler.type)
        for dataset in leaf_datasets(loader.dataset):
            assert registry.DATASETS.get(dataset.type)
            for transform in dataset.pipeline:
                registry.TRANSFORMS.build(transform)
    assert cfg.train_dataloader.batch_size == cfg.train_dataloader.sampler.get(
        'batch_size', cfg.train_dataloader.batch_size
    )
    for hook in [*cfg.default_hooks.values(), *cfg.get('custom_hooks', [])]:
        assert registry.HOOKS.get(hook.type), hook.type
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        for metric in evaluator if isinstance(evaluator, list) else [evaluator]:
            registry.METRICS.build(metric)


def without_pretrained_weights(model):
    """Take what would be loaded out of a model's config, and all but one block of timm's transformers."""
    backbone = model['backbone'].get('backbone', model['backbone'])
    backbone.pop('init_cfg', None)
    if backbone['type'] == 'TimmModel':
        backbone['depth'] = 1


def assert_learns(model):
    """A model without pretrained weights takes a finite step on four images of two classes and embeds them."""
    embedder = registry.MODELS.build(model)
    if model['backbone']['type'] == 'Identity':
        inputs = torch.randn(4, model['neck']['in_channels'])
    else:
        channels = len(model['data_preprocessor']['mean'])
        inputs = list(torch.randint(0, 256, (4, channels, 64, 64), dtype=torch.uint8))
    samples = [DataSample(metainfo=dict(sample_idx=at)).set_gt_label(at // 2) for at in range(4)]
    data = embedder.data_preprocessor(dict(inputs=inputs, data_samples=samples), True)
    for part in embedder.modules():
        if isinstance(part, ColumnReader):
            names = (*getattr(part, 'levels', ()), getattr(part, 'column', ''))
            part.read_columns(np.arange(4) // 2, {name: np.zeros(4, dtype=np.int64) for name in names})
    embedder.step = StepContext(Progress(iter=0, max_iters=1000, epoch_length=10))
    losses = embedder(**data, mode='loss')
    losses['loss'].backward()
    assert torch.isfinite(losses['loss'])
    found = torch.stack([sample.embedding for sample in embedder.eval()(**data, mode='predict')])
    lengths = found.norm(dim=1)
    if embedder.neck.is_spherical:
        torch.testing.assert_close(lengths, torch.ones(4))
    else:  # Points inside the unit ball.
        assert ((lengths > 0) & (lengths < 1)).all()
    assert found.shape[1] == embedder.neck.embed_dim == model['neck'].get('embed_dim', embedder.neck.embed_dim)
