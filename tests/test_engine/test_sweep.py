"""One pass over the training set: every image once, the same whatever the number of ranks, workers and batches."""

import os.path as osp
import shutil

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.hooks import Hook
from ranks import run_group
from tiny import tiny_config, train

from mmdml.datasets import ImageFolder
from mmdml.engine import sweep
from mmdml.models import ImageEmbedder, class_statistics
from mmdml.registry import HOOKS

PIPELINE = [
    dict(type='LoadImageFromFile', color_type='grayscale'),
    dict(type='RandomAffine', degrees=20),
    dict(type='mmpretrain.PackInputs'),
]


def build(pictures, **options):
    torch.manual_seed(0)
    model = ImageEmbedder(
        backbone=dict(type='Conv4', channels=6),
        neck=dict(type='LinearEmbedding', in_channels=6, embed_dim=4),
        data_preprocessor=dict(mean=[0.0], std=[255.0]),
    )
    return model, ImageFolder(**{'data_root': pictures, 'pipeline': PIPELINE, 'seed': 3, **options})


def test_rows_come_in_data_set_order_for_any_batch_size_and_number_of_workers(pictures):
    model, dataset = build(pictures)
    whole = sweep(model, dataset, batch_size=100, with_features=True)
    assert torch.equal(whole.labels, torch.tensor(dataset.labels)) and whole.num_classes == 8
    assert torch.equal(whole.indices, torch.arange(36)) and whole.features.shape == (36, 6)
    for batch_size, workers in ((5, 0), (7, 2)):
        other = sweep(model, dataset, batch_size=batch_size, num_workers=workers)
        torch.testing.assert_close(other.raw, whole.raw)


def test_a_sweep_leaves_mode_gradients_and_random_state_alone(pictures):
    model, dataset = build(pictures)
    model.train()
    statistics = model.backbone.blocks[1].running_mean.clone()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    embeddings = sweep(model, dataset, batch_size=8)
    assert torch.equal(torch.rand(3), expected)
    assert model.training and not embeddings.raw.requires_grad
    assert torch.equal(model.backbone.blocks[1].running_mean, statistics)


def test_a_repeated_sweep_of_a_frozen_network_gives_the_same_variance(pictures):
    model, dataset = build(pictures)
    first, second = (sweep(model, dataset, batch_size=9) for _ in range(2))
    assert torch.equal(
        class_statistics(first.raw, first.labels, 8).var, class_statistics(second.raw, second.labels, 8).var
    )


def sweep_on_a_rank(rank, world_size, pictures, out):
    model, dataset = build(pictures)
    torch.save(vars(sweep(model, dataset, batch_size=5)), osp.join(out, f'{rank}.pth'))


def test_three_ranks_equal_one_process(pictures, tmp_path):
    run_group(sweep_on_a_rank, pictures, str(tmp_path), number=3)
    alone = sweep(*build(pictures), batch_size=5)
    for rank in range(3):
        part = torch.load(tmp_path / f'{rank}.pth')
        assert torch.equal(part['indices'], alone.indices) and torch.equal(part['labels'], alone.labels)
        torch.testing.assert_close(part['raw'], alone.raw)


def test_an_unreadable_image_has_no_row_and_its_replacement_counts_once(pictures, tmp_path):
    folder = tmp_path / 'copy'
    shutil.copytree(pictures, folder)
    pipeline = [PIPELINE[0], PIPELINE[2]]
    model, good = build(str(folder), pipeline=pipeline)
    whole = sweep(model, good, batch_size=8)
    broken = sorted((folder / 'class_2').iterdir())[1]
    broken.write_bytes(b'no picture')
    model, dataset = build(str(folder), pipeline=pipeline, on_unreadable='same_class')
    index = next(i for i in range(36) if dataset.get_data_info(i)['img_path'] == str(broken))
    embeddings = sweep(model, dataset, batch_size=8)
    kept = [i for i in range(36) if i != index]
    assert embeddings.indices.tolist() == kept
    torch.testing.assert_close(embeddings.raw, whole.raw[kept])


@HOOKS.register_module()
class Listener(Hook):
    """A second subscriber."""

    embedding_source = 'sweep'

    def __init__(self, transform, every=1):
        self.sweep_transform, self.every, self.received = transform, every, []

    def embeddings_due(self, progress):
        return progress.iter % (self.every * progress.epoch_length) == 0

    def receive_embeddings(self, embeddings, progress):
        self.received.append((progress.iter, embeddings))


def run_with_listeners(pictures, tmp_path, monkeypatch, *transforms, **options):
    """Train two epochs; return the listeners and the number of passes over the training set."""
    from mmdml.engine.hooks import sweep_hook

    passes = []

    def counting(*args, **kwargs):
        passes.append(args[1])
        return sweep(*args, **kwargs)

    monkeypatch.setattr(sweep_hook, 'sweep', counting)
    hooks = [dict(type='Listener', transform=transform) for transform in transforms]
    cfg = tiny_config(
        pictures,
        tmp_path,
        train_cfg__max_epochs=2,
        custom_hooks=hooks,
        model__head__sources__iaa__onset=0,
        model__head__sources__iaa__update_interval=1,
        **options,
    )
    runner = train(cfg)
    return [hook for hook in runner.hooks if isinstance(hook, Listener)], passes


def test_one_pass_serves_all_subscribers_of_a_moment(pictures, tmp_path, monkeypatch):
    listeners, passes = run_with_listeners(pictures, tmp_path, monkeypatch, 'train')
    assert [when for when, _ in listeners[0].received] == [0, 7]
    assert len(passes) == 2


def test_iaa_follows_a_subscriber_that_asks_for_the_test_transform(pictures, tmp_path, monkeypatch):
    _, passes = run_with_listeners(pictures, tmp_path, monkeypatch, 'test')
    assert len(passes) == 2
    assert not any('RandomAffine' in repr(transform) for data in passes for transform in data.pipeline.transforms)


def test_the_test_transform_may_stand_in_the_parts_of_a_concatenation(pictures, tmp_path, monkeypatch):
    """As the three test lists of VehicleID."""
    cfg = tiny_config(pictures, tmp_path)
    part = dict(cfg.test_dataloader.dataset)
    lists = dict(_delete_=True, type='RetrievalConcatDataset', label_space='shared', datasets=[part, part])
    _, passes = run_with_listeners(pictures, tmp_path, monkeypatch, 'test', test_dataloader__dataset=lists)
    assert len(passes) == 2
    kinds = [type(transform) for transform in Compose(part['pipeline']).transforms]
    assert all([type(transform) for transform in data.pipeline.transforms] == kinds for data in passes)


def test_a_transform_of_ones_own_costs_a_pass_of_its_own(pictures, tmp_path, monkeypatch):
    _, passes = run_with_listeners(
        pictures, tmp_path, monkeypatch, 'test', model__head__sources__iaa__transform='train'
    )
    assert len(passes) == 4


def test_the_bank_costs_no_pass(pictures, tmp_path, monkeypatch):
    from mmdml.engine.hooks import sweep_hook

    def forbidden(*args, **kwargs):
        raise AssertionError('a pass over the training set')

    monkeypatch.setattr(sweep_hook, 'sweep', forbidden)
    runner = train(tiny_config(pictures, tmp_path, model__head__sources__iaa__source='bank'))
    bank = next(hook.bank for hook in runner.hooks if hasattr(hook, 'bank'))
    assert bank.filled.all()
    state = runner.model.head.sources['iaa'].estimator.run_state()
    assert state['count'].sum() == 36 and torch.isfinite(state['corrected']).all()


def test_sweeps_with_the_training_transform_see_other_crops_each_time(pictures, tmp_path, monkeypatch):
    listeners, passes = run_with_listeners(pictures, tmp_path, monkeypatch, 'train')
    first, second = (np.stack([data[i]['inputs'] for i in range(4)]) for data in passes)
    assert not np.array_equal(first, second)


def test_embeddings_that_are_not_finite_stop_the_run_by_name(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, model__head__sources__iaa__onset=0, optim_wrapper__optimizer__lr=1e30)
    with pytest.raises(Exception, match=r'(NaN|not finite|infinite)'):
        train(cfg)
