"""Configs of tiny runs, made from the project's own ones."""

import os.path as osp

from mmengine.config import Config
from mmengine.runner import Runner

from mmdml.engine.runner import build_runner

REPO = osp.dirname(osp.dirname(osp.abspath(__file__)))


def tiny_config(pictures: str, work_dir, config: str = 'iaa/iaa_ms_conv4_omniglot.py', **options) -> Config:
    """A config of the project on a handful of pictures: 8-channel Conv4, batches of 3 x 2, 4 epochs.

    Args:
        pictures: folder of classes.
        work_dir: of the run.
        config: below ``configs/``.
        options: dotted keys with ``__`` for the dot, as ``--cfg-options`` would have them.
    """
    cfg = Config.fromfile(osp.join(REPO, 'configs', config))
    load = dict(type='LoadImageFromFile', color_type='grayscale')
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg[name]
        dataset = loader.dataset
        loader.dataset = dict(
            type='ImageFolder',
            data_root=pictures,
            split='train',
            test_mode=dataset.get('test_mode', False),
            pipeline=[load, *dataset.pipeline],
        )
        loader.num_workers = 0
        loader.persistent_workers = False
    cfg.train_dataloader.batch_size = cfg.train_dataloader.sampler.batch_size = 6
    cfg.train_dataloader.sampler.images_per_class = 2
    cfg.merge_from_dict(
        {
            'work_dir': str(work_dir),
            'model.backbone.channels': 8,
            'model.neck.in_channels': 8,
            'model.neck.embed_dim': 6,
            'train_cfg.max_epochs': 4,
            'train_cfg.val_interval': 1,
            'default_hooks.logger.interval': 1,
            'model.head.diagnostics_interval': 1,
            'visualizer.vis_backends': [dict(type='LocalVisBackend')],
            'log_level': 'WARNING',
            **{key.replace('__', '.'): value for key, value in options.items()},
        }
    )
    return cfg


def train(cfg: Config) -> Runner:
    """Train and return the runner."""
    import uuid

    cfg = cfg.copy()
    cfg.experiment_name = uuid.uuid4().hex  # MMEngine keeps one logger and message hub per name
    runner = build_runner(cfg)
    runner.train()
    return runner


def weights(runner: Runner) -> dict:
    """Copies of the model's weights, on the host."""
    return {key: value.cpu().clone() for key, value in runner.model.state_dict().items()}
