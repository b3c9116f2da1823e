"""Saved features as a dataset: what a batch is, and runs on them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from feature_rows import LABELS, batch_of, features
from mmengine.config import Config
from tiny import REPO, train, weights

from mmdml.cli import embedding_output
from mmdml.datasets import Draw, FeatureFile, RetrievalConcatDataset, collate_features
from mmdml.engine.runner import MetricLearningRunner
from mmdml.evaluation.scoring import RetrievalScoring
from mmdml.functional.embedding_files import read_embeddings

# ---- batches ---------------------------------------------------------------------------------------------------------


def test_subsets_and_concatenations_keep_their_rows(npz):
    whole = FeatureFile(npz)
    subset = whole.get_subset([30, 2, 4])
    assert np.array_equal(batch_of(subset, [0, 2])['inputs'], features()[[30, 4]])
    assert subset[1]['data_samples'].gt_label.tolist() == [1]
    joined = RetrievalConcatDataset([whole, subset], 'shared', roles=['gallery', 'query'])
    batch = collate_features([joined[0], joined[36]])
    assert np.array_equal(batch['inputs'], features()[[0, 30]])
    assert [(each.sample_idx, each.role) for each in batch['data_samples']] == [(0, 2), (36, 1)]
    with pytest.raises(IndexError, match='has 36 rows, got the index 36'):
        batch_of(whole, [36])


def test_mixup_keeps_to_the_class_in_a_concatenation_of_files_that_were_read_before(npz):
    first = FeatureFile(npz).get_subset(range(6))
    second = FeatureFile(npz, seed=0, pipeline=[dict(type='FeatureMixup', weight=1.0)]).get_subset(range(6, 36))
    batch_of(second, [0])
    joined = RetrievalConcatDataset([second, first, second], 'disjoint')
    for row in range(36, 66):
        mixed, own = joined[row]['inputs'].numpy(), second.features_at(np.array([row - 36]))[0].numpy()
        others = second.features_at(np.flatnonzero(second.labels == second.labels[row - 36])).numpy()
        parts = np.linalg.norm(mixed - own) + np.linalg.norm(mixed - others, axis=1)
        assert np.isclose(parts, np.linalg.norm(own - others, axis=1), rtol=1e-4).any()


def test_noise_and_mixup_depend_on_seed_epoch_row_and_repeat_alone(npz):
    options = dict(seed=5, pipeline=[dict(type='FeatureMixup', weight=0.5), dict(type='FeatureNoise', std=0.1)])
    dataset = FeatureFile(npz, **options)
    batch = batch_of(dataset, [4, 9, 20])['inputs']
    assert torch.equal(batch[1:2], batch_of(FeatureFile(npz, **options), [9])['inputs'])
    assert torch.equal(batch[2], dataset[20]['inputs'])
    assert not torch.equal(batch[1], batch_of(dataset, [Draw(9, 1)])['inputs'][0])
    dataset.set_epoch(1)
    assert not torch.equal(batch, batch_of(dataset, [4, 9, 20])['inputs'])
    assert np.array_equal(batch_of(dataset.with_pipeline([]), [4])['inputs'], features()[[4]])


def test_mixup_stays_between_two_rows_of_a_class_and_noise_has_its_deviation(npz):
    mixed = batch_of(FeatureFile(npz, seed=0, pipeline=[dict(type='FeatureMixup', weight=1.0)]), range(36))['inputs']
    for row, (own, label) in enumerate(zip(features(), LABELS, strict=True)):
        others = features()[(LABELS == label) & (np.arange(36) != row)]
        # On the segment to one of the others: both parts add up to its length.
        parts = np.linalg.norm(mixed[row] - own) + np.linalg.norm(mixed[row].numpy() - others, axis=1)
        assert np.isclose(parts, np.linalg.norm(own - others, axis=1), rtol=1e-4).any()
    noisy = FeatureFile(npz, seed=0, pipeline=[dict(type='FeatureNoise', std=0.5)])
    draws = []
    for epoch in range(30):
        noisy.set_epoch(epoch)
        draws.append(batch_of(noisy, range(36))['inputs'] - torch.from_numpy(features()))
    ratio = torch.cat(draws).std(0) / torch.from_numpy(features()).std(0, correction=0)
    torch.testing.assert_close(ratio, torch.full((5,), 0.5), atol=0.05, rtol=0)


# ---- runs ------------------------------------------------------------------------------------------------------------


def run_config(npz, work_dir, config, **options):
    cfg = Config.fromfile(f'{REPO}/configs/features/{config}_features.py')
    options = {
        'work_dir': str(work_dir),
        'train_dataloader.batch_size': 6,
        'train_dataloader.sampler.batch_size': 6,
        'train_dataloader.sampler.images_per_class': 2,
        'model.neck.in_channels': 5,
        'model.neck.embed_dim': 4,
        'train_cfg.max_epochs': 4,
        'train_cfg.val_interval': 2,
        'default_hooks.checkpoint.interval': 1,
        'default_hooks.checkpoint.max_keep_ckpts': -1,
        'log_level': 'WARNING',
        **options,
    }
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        options[f'{name}.dataset.data_root'] = ''
        options[f'{name}.dataset.ann_file'] = npz
    cfg.merge_from_dict(options)
    return cfg


DIVIDED = {
    'custom_hooks.0.divide_until': 2,
    'custom_hooks.0.fine_tune_from': 3,
    'custom_hooks.0.interval': 1,
    'model.neck.num_learners': 2,
}
RUNS = {
    'iaa_sweep': ('iaa_ms_mlp', {'train_dataloader.dataset.pipeline': [dict(type='FeatureNoise', std=0.1)]}),
    'iaa_bank': ('iaa_triplet_linear', {'model.head.sources.iaa.source': 'bank'}),
    'slices_with_iaa': ('iaa_dc-k4_margin_linear', DIVIDED),
}


@pytest.mark.parametrize('name', RUNS)
def test_a_run_on_features_resumes_bit_equal(npz, tmp_path, name):
    config, options = RUNS[name]
    whole = train(run_config(npz, tmp_path / 'whole', config, **options))
    cfg = run_config(npz, tmp_path / 'part', config, **options)
    cfg.load_from, cfg.resume = str(tmp_path / 'whole/epoch_2.pth'), True
    resumed = train(cfg)
    assert resumed.iter == whole.iter
    for key, value in weights(whole).items():
        assert torch.equal(weights(resumed)[key], value), key
    log = next((tmp_path / 'whole').glob('*/vis_data/scalars.json')).read_text().splitlines()
    scores = [json.loads(line) for line in log if 'Recall@1' in line]
    assert len(scores) == 2 and 0 <= scores[-1]['retrieval/Recall@1'] <= 100


@pytest.mark.parametrize('tested', [True, False], ids=['tested', 'trained only'])
def test_features_are_clustered_without_a_pipeline_of_the_test_data(npz, tmp_path, tested):
    cfg = run_config(npz, tmp_path, 'dc-k4_margin_linear', **DIVIDED, **{'train_cfg.max_epochs': 1})
    for part in ('val', 'test'):
        del cfg[f'{part}_dataloader'].dataset['pipeline']
        if not tested:
            cfg.merge_from_dict({f'{part}_{name}': None for name in ('dataloader', 'cfg', 'evaluator')})
    assert train(cfg).train_dataloader.sampler.num_clusters == 2


@pytest.mark.parametrize(
    ('ids', 'options'),
    [
        (np.arange(36), dict(groups='camera')),
        (np.array([f'image {n}' for n in range(36)]), dict(graded=dict(levels=['coarse']))),
    ],
    ids=['numbers and groups', 'texts and levels'],
)
def test_ids_and_columns_act_as_in_the_command_that_scores_the_file(tmp_path, ids, options):
    path, out = str(tmp_path / 'twice.npz'), str(tmp_path / 'out.npz')
    coarse, noise = LABELS % 2, np.random.default_rng(0).standard_normal((36, 5)).astype(np.float32)
    rows = dict(embeddings=noise, labels=LABELS, ids=ids, column_coarse=coarse, column_camera=np.arange(36) % 2)
    np.savez(path, **{name: np.repeat(values, 2, axis=0) for name, values in rows.items()})
    cfg = run_config(path, tmp_path / 'run', 'ms_linear')
    # Untrained, it returns the features.
    cfg.model.neck = dict(type='ResidualEmbedding', in_channels=5)
    cfg.optim_wrapper = None
    cfg.train_dataloader = cfg.train_cfg = cfg.param_scheduler = None
    cfg.test_evaluator = dict(type='RetrievalMetric', **options)
    cfg.experiment_name = 'ids_' + ids.dtype.kind
    runner = MetricLearningRunner.from_cfg(cfg)
    embedding_output.write_embeddings(runner, out, score=True)
    found = {name.removeprefix('retrieval/'): value / 100 for name, value in runner.test().items()}
    for file in (path, out):
        saved = read_embeddings(file)
        cameras = np.repeat(np.arange(36) % 2, 2) if 'groups' in options else None
        facts = replace(saved.facts, groups=cameras)
        assert facts.ids.tolist() == np.repeat(ids, 2).tolist()
        scored = RetrievalScoring(graded=options.get('graded'))(noise.repeat(2, axis=0), facts)
        assert found == pytest.approx(scored) and found['Recall@1'] < 0.9


def test_targets_read_the_columns_of_the_file(tmp_path):
    np.savez(tmp_path / 'f.npz', embeddings=features(), labels=LABELS, column_coarse=LABELS % 2)
    targets = dict(type='HierarchyTargets', levels=['coarse'])
    options = {'model.head.targets': targets, 'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 1}
    runner = train(run_config(str(tmp_path / 'f.npz'), tmp_path / 'run', 'ms_linear', **options))
    # Rows 0 and 1 are of class 3, row 6 is of 10, row 12 of 7.
    found = runner.model.head.targets.between(torch.tensor([0]), torch.tensor([1, 6, 12]))
    assert found.tolist() == [[1, 0, 0.5]]


def test_a_file_of_another_width_is_found_before_the_training(npz, tmp_path):
    np.savez(tmp_path / 'narrow.npz', embeddings=features(36, 3), labels=LABELS)
    cfg = run_config(npz, tmp_path / 'run', 'ms_linear')
    cfg.val_dataloader.dataset.ann_file = str(tmp_path / 'narrow.npz')
    with pytest.raises(ValueError, match=r'got 5 \(train_dataloader.dataset\) and 3 \(val_dataloader.dataset\)'):
        train(cfg)
    assert not list(tmp_path.glob('run/*.pth'))


@pytest.mark.parametrize('collate', [dict(type='pseudo_collate'), dict(type='default_collate')], ids=str)
def test_a_loader_without_its_collate_fn_is_named(npz, collate):
    loader = MetricLearningRunner.build_dataloader(
        dict(
            batch_size=4,
            num_workers=0,
            collate_fn=collate,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='mmdml.FeatureFile', ann_file=npz),
        )
    )
    with pytest.raises(ValueError, match="the loader needs collate_fn=dict\\(type='mmdml.collate_features'\\)"):
        next(iter(loader))


def test_loader_workers_and_ranks_see_the_same_batches(npz):
    def batches(workers, rank=0, ranks=1):
        sampler = dict(
            type='mmdml.PKSampler', batch_size=6 // ranks, images_per_class=1, seed=1, rank=rank, world_size=ranks
        )
        loader = MetricLearningRunner.build_dataloader(
            dict(
                batch_size=6 // ranks,
                num_workers=workers,
                collate_fn=dict(type='mmdml.collate_features'),
                sampler=sampler,
                dataset=dict(
                    type='mmdml.FeatureFile', ann_file=npz, seed=3, pipeline=[dict(type='FeatureNoise', std=1)]
                ),
            )
        )
        return [batch['inputs'] for batch in loader]

    alone = batches(0)
    assert all(torch.equal(a, b) for a, b in zip(alone, batches(2), strict=True))
    first, second = batches(0, 0, 2), batches(0, 1, 2)
    assert all(torch.equal(torch.cat(pair), one) for *pair, one in zip(first, second, alone, strict=True))
