"""Saved features as a dataset: where they may come from, what a batch is, and runs on them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from tiny import REPO, train, weights

from mmdml.apis.embedding_shards import write_shards
from mmdml.cli import embedding_output
from mmdml.datasets import Draw, FeatureFile, RetrievalConcatDataset, collate_features
from mmdml.engine.runner import MetricLearningRunner
from mmdml.evaluation.scoring import RetrievalScoring
from mmdml.functional.embedding_files import read_embeddings, write_embeddings
from mmdml.structures import RowFacts

LABELS = np.repeat([3, 10, 7, 20, 5, 1], 6)


def features(rows=36, width=5, seed=0):
    noise = np.random.default_rng(seed).standard_normal((rows, width))
    return (noise + 4 * LABELS[:rows, None] % 9).astype(np.float32)


@pytest.fixture
def npz(tmp_path):
    np.savez(tmp_path / 'some.npz', embeddings=features(), labels=LABELS)
    return str(tmp_path / 'some.npz')


def batch_of(dataset, indices):
    return dataset.__getitems__(indices)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_rows_labels_and_classes_are_those_of_the_file(npz):
    dataset = FeatureFile(npz)
    assert dataset.metainfo['classes'] == ['1', '3', '5', '7', '10', '20']
    batch = batch_of(dataset, [0, 35, 7])
    assert np.array_equal(batch['inputs'], features()[[0, 35, 7]])
    assert batch['data_samples'].labels.tolist() == [1, 0, 4] and batch['data_samples'].indices.tolist() == [0, 35, 7]
    sample = batch['data_samples'][1]
    assert (int(sample.gt_label), sample.sample_idx, sample.role, sample.img_path) == (0, 35, 0, '')


def test_a_file_of_the_test_tool_keeps_roles_paths_groups_and_the_order_of_classes(tmp_path):
    facts = RowFacts.of(
        labels=np.array([1, 0, 1]), roles=[1, 2, 2], groups=['a', 'b', 'a'], paths=['x/1.jpg', 'y/2.jpg', 'x/3.jpg'],
        class_names=('wren', 'robin'),
    )  # fmt: skip
    write_embeddings(str(tmp_path / 'f.npz'), features(3), facts)
    dataset = FeatureFile('f.npz', data_root=str(tmp_path))
    assert dataset.metainfo['classes'] == ['wren', 'robin'] and dataset.metainfo['has_roles']
    samples = list(batch_of(dataset, [0, 1])['data_samples'])
    assert [(int(each.gt_label), each.role, each.groups, each.img_path) for each in samples] == [
        (1, 1, 'a', 'x/1.jpg'),
        (0, 2, 'b', 'y/2.jpg'),
    ]


def test_npy_with_a_table_and_parquet_hold_the_same(tmp_path, npz):
    pyarrow = pytest.importorskip('pyarrow')
    from pyarrow import parquet

    np.save(tmp_path / 'f.npy', features())
    (tmp_path / 'table.csv').write_text(
        'label,path\n' + ''.join(f'{label},{n}.jpg\n' for n, label in enumerate(LABELS))
    )
    columns = {'embedding': features().tolist(), 'label': LABELS}
    parquet.write_table(pyarrow.table(columns), tmp_path / 'f.parquet')
    by_table = FeatureFile('f.npy', label_file='table.csv', data_root=str(tmp_path))
    for dataset in (by_table, FeatureFile(str(tmp_path / 'f.parquet'))):
        batch, expected = batch_of(dataset, range(36)), batch_of(FeatureFile(npz), range(36))
        assert torch.equal(batch['inputs'], expected['inputs'])
        assert torch.equal(batch['data_samples'].labels, expected['data_samples'].labels)
    assert by_table.get_data_info(2)['img_path'] == '2.jpg'


def test_pictures_of_a_folder_of_embed_that_are_in_no_folder_have_no_label(tmp_path):
    (tmp_path / '00000.jsonl').write_text(
        '\n'.join(json.dumps(dict(row=row, path=f'{row}.jpg', label='')) for row in range(3))
    )
    np.save(tmp_path / '00000.npy', features(3))
    with pytest.raises(
        ValueError, match='3 of 3 images have no label, the first is row 0: name a file of labels with label_file'
    ):
        FeatureFile(str(tmp_path))
    (tmp_path / 'labels.txt').write_text('a\nb\na\n')
    assert FeatureFile(str(tmp_path), label_file=str(tmp_path / 'labels.txt')).labels.tolist() == [0, 1, 0]


def test_a_folder_of_embed_is_labeled_by_the_folders_of_its_pictures(tmp_path, pictures):
    from mmdml.apis import ImageEmbeddingInferencer

    embed = ImageEmbeddingInferencer('ms_conv4_omniglot', pretrained=False, workers=1, progress=False)
    write_shards(embed, pictures, tmp_path / 'shards', shard_size=7)
    dataset = FeatureFile('shards', data_root=str(tmp_path))
    paths = [dataset.get_data_info(row)['img_path'] for row in range(len(dataset))]
    assert len(dataset) > 7 and dataset.metainfo['classes'] == sorted({path.split('/')[0] for path in paths})
    first = embed([f'{pictures}/{paths[8]}']).embeddings
    np.testing.assert_allclose(batch_of(dataset, [8])['inputs'], first, atol=1e-5)
    lines = (tmp_path / 'shards/00001.jsonl').read_text().splitlines()
    (tmp_path / 'shards/00001.jsonl').write_text('\n'.join(lines[1:]))
    with pytest.raises(ValueError, match=r'00001.jsonl names \d pictures, its .npy file has \d rows'):
        FeatureFile('shards', data_root=str(tmp_path))


THREE = {'embeddings': features(3), 'labels': np.array([1, 1, 2])}


@pytest.mark.parametrize(
    ('arrays', 'message'),
    [
        ({'embeddings': features(3)}, r'has no labels, only \[.embeddings.\]: name a file of them with label_file'),
        ({**THREE, 'labels': ['a', '', 'b']}, '1 of 3 images have no label, the first is row 1: .* with label_file'),
        ({**THREE, 'embeddings': np.array([[1], [2], [np.inf]])}, '1 of 3 embeddings are not finite.*row 2'),
        ({**THREE, 'labels': [1, 2]}, 'there are 3 embeddings, but 2 labels'),
        ({**THREE, 'labels': [1, 2, 3, 3]}, 'there are 3 embeddings, but 4 labels'),
        ({**THREE, 'labels': [1, 2, np.nan]}, 'labels must be integers or strings, got float64'),
        ({**THREE, 'labels': np.eye(3, dtype=int)}, r'of shape \(3,\), got \(3, 3\); of one column a class'),
        ({**THREE, 'labels': 3}, r'labels must be one for each embedding, of shape \(3,\), got \(\)'),
        ({**THREE, 'roles': [1, 2]}, 'there are 3 embeddings, but 2 roles'),
        ({**THREE, 'roles': [1, 2, 5]}, r'roles must be 0 \(both\), 1 \(query\) or 2 \(gallery\), got \[5\]'),
        ({**THREE, 'groups': ['a']}, 'there are 3 embeddings, but 1 groups'),
        ({**THREE, 'ids': [7, 8, 8]}, 'rows 1 and 2 are one image, but have the labels 1 and 2'),
        ({**THREE, 'paths': ['a.jpg', 'b.jpg']}, 'there are 3 embeddings, but 2 paths'),
        ({**THREE, 'paths': [1, 2, 3]}, 'paths must be strings, got int64'),
        ({**THREE, 'column_camera': [1]}, r'camera must have shape \(3,\), one per label, got \(1,\)'),
    ],
)
def test_faulty_files_are_named_as_the_command_that_scores_them_does(tmp_path, arrays, message):
    path = str(tmp_path / 'f.npz')
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=f'f.npz.*{message}') as found:
        FeatureFile(path)
    with pytest.raises(ValueError) as scored:
        read_embeddings(path)
    assert str(found.value) == str(scored.value).replace('--labels', 'label_file')


def test_labels_that_are_one_number_in_two_ways_are_named(tmp_path):
    np.savez(tmp_path / 'f.npz', embeddings=features(3), labels=['1', '01', '2'])
    with pytest.raises(ValueError, match="f.npz.*'01' and '1' are the same number"):
        FeatureFile(str(tmp_path / 'f.npz'))


def test_sides_whose_labels_are_shifted_are_refused(tmp_path):
    x = features()
    np.savez(
        tmp_path / 'f.npz',
        query_embeddings=x[:10], query_labels=LABELS[:9], gallery_embeddings=x[10:], gallery_labels=LABELS[9:],
    )  # fmt: skip
    with pytest.raises(ValueError, match='there are 10 query_embeddings, but 9 query_labels'):
        FeatureFile(str(tmp_path / 'f.npz'))


def test_labels_in_bytes_are_texts(tmp_path):
    np.savez(tmp_path / 'f.npz', embeddings=features(3), labels=np.array([b'k1', b'k0', 'k\xe9'.encode()]))
    assert FeatureFile(str(tmp_path / 'f.npz')).metainfo['classes'] == ['k0', 'k1', 'k\xe9']


def test_a_class_may_be_called_minus_one(tmp_path):
    np.savez(tmp_path / 'own.npz', embeddings=features(3), labels=[-1, 4, -1])
    (tmp_path / 'table.csv').write_text('label\n-1\n4\n-1\n')
    np.save(tmp_path / 'x.npy', features(3))
    facts = RowFacts.of(labels=[0, 1, 0], class_names=['-1', '4'])
    write_embeddings(str(tmp_path / 'written.npz'), features(3), facts)
    for dataset in (
        FeatureFile(str(tmp_path / 'own.npz')),
        FeatureFile(str(tmp_path / 'x.npy'), label_file=str(tmp_path / 'table.csv')),
        FeatureFile(str(tmp_path / 'written.npz')),
    ):
        assert dataset.metainfo['classes'] == ['-1', '4'] and dataset.labels.tolist() == [0, 1, 0]


def test_rows_that_no_class_has_are_told_apart_from_a_class_called_minus_one(tmp_path):
    path = str(tmp_path / 'f.npz')
    write_embeddings(path, features(3), RowFacts.of(labels=[0, 1, -1], class_names=['-1', '4']))
    assert np.load(path)['labels'].tolist() == ['-1', '4', '']
    with pytest.raises(ValueError, match='1 of 3 images have no label, the first is row 2'):
        FeatureFile(path)


def test_columns_of_the_file_are_there_by_name(tmp_path):
    coarse, camera = ['b', 'a', 'b'], [0, 1, 1]
    columns = dict(column_coarse=coarse, column_camera=camera, groups=[4, 4, 5], ids=['x', 'y', 'x'])
    np.savez(tmp_path / 'f.npz', embeddings=features(3), labels=[1, 2, 1], **columns)
    dataset = FeatureFile(str(tmp_path / 'f.npz'))
    assert {name: values.tolist() for name, values in dataset.columns.items()} == dict(
        ids=['x', 'y', 'x'], groups=[4, 4, 5], coarse=coarse, camera=camera
    )
    sample = batch_of(dataset.get_subset([2, 1]), [0])['data_samples'][0]
    assert (sample.ids, sample.groups, sample.coarse, sample.camera) == ('x', 5, 'b', 1)
    np.savez(tmp_path / 'f.npz', embeddings=features(3), labels=[1, 2, 1], column_role=camera)
    with pytest.raises(ValueError, match="f.npz has a column 'column_role'; the name 'role' is taken"):
        FeatureFile(str(tmp_path / 'f.npz'))


def test_paths_may_be_addresses_as_no_image_is_opened(tmp_path):
    paths = ['s3://bucket/a.jpg', 'https://example.org/b.jpg', 's3://bucket/a.jpg']
    np.savez(tmp_path / 'f.npz', embeddings=features(3), labels=[1, 2, 1], paths=paths)
    dataset = FeatureFile(str(tmp_path / 'f.npz'))
    assert [sample.img_path for sample in batch_of(dataset, range(3))['data_samples']] == paths


def test_one_file_is_cut_into_training_validation_and_test_classes(npz):
    parts = {
        split: FeatureFile(npz, split=split, test_classes=2, val_classes=0.25) for split in ('train', 'val', 'test')
    }
    assert {split: part.metainfo['classes'] for split, part in parts.items()} == {
        'train': ['1', '3', '5'],
        'val': ['7'],
        'test': ['10', '20'],
    }
    expected = features()[LABELS == 7]
    assert np.array_equal(batch_of(parts['val'], range(6))['inputs'], expected)
    assert np.array_equal(batch_of(parts['test'], range(6, 12))['inputs'], features()[LABELS == 20])
    with pytest.raises(ValueError, match='test_classes=6 must leave classes on both sides of 6'):
        FeatureFile(npz, test_classes=6)


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
