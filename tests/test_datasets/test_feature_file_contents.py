"""What a file of features may hold: labels, classes, columns, sides; and what is refused."""

import json

import numpy as np
import pytest
import torch
from feature_rows import LABELS, batch_of, features

from mmdml.apis.embedding_shards import write_shards
from mmdml.datasets import FeatureFile, ImageList
from mmdml.functional.embedding_files import read_embeddings, write_embeddings
from mmdml.structures import RowFacts


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
    (tmp_path / 'embeddings.json').write_text('{"pictures": 3, "shard_size": 3}')
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
    for number in ('two', True):
        with pytest.raises(ValueError, match=f'test_classes must be a share .* got {number!r}'):
            FeatureFile(npz, test_classes=number)


def blank_sources(tmp_path):
    """Files whose second label is blanks only, and how each is opened."""
    np.savez(tmp_path / 'f.npz', embeddings=features(3), labels=['wren', ' ', 'wren'])
    np.save(tmp_path / 'x.npy', features(3))
    (tmp_path / 'table.csv').write_text('label,path\nwren,1.jpg\n" ",2.jpg\nwren,3.jpg\n')
    (tmp_path / 'list.csv').write_text('path,label\n1.jpg,wren\n2.jpg," "\n3.jpg,wren\n')
    return {
        '1 of 3 images have no label, the first is row 1': lambda: FeatureFile(str(tmp_path / 'f.npz')),
        'table.csv, line 3: labels are missing': lambda: FeatureFile(
            str(tmp_path / 'x.npy'), label_file=str(tmp_path / 'table.csv')
        ),
        'list.csv, line 3: the label is empty': lambda: ImageList(ann_file='list.csv', data_root=str(tmp_path)),
    }


@pytest.mark.parametrize('number', range(3))
def test_a_label_of_blanks_is_none(tmp_path, number):
    message, opened = list(blank_sources(tmp_path).items())[number]
    with pytest.raises(ValueError, match=message):
        opened()


def test_labels_may_be_positions_among_the_class_names(tmp_path):
    np.savez(tmp_path / 'f.npz', embeddings=features(4), labels=[2, 0, 2, 0], class_names=['wren', 'robin', 'finch'])
    dataset = FeatureFile(str(tmp_path / 'f.npz'))
    assert dataset.metainfo['classes'] == ['wren', 'finch'] and dataset.labels.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    'labels, label', [([0, 3, 0], "'0'"), (['wren', 'eagle', 'wren'], "'eagle'"), ([-1, 1, 1], "'-1'")]
)
def test_a_label_that_is_not_among_the_class_names_is_named(tmp_path, labels, label):
    np.savez(tmp_path / 'f.npz', embeddings=features(3), labels=labels, class_names=['wren', 'robin', 'finch'])
    with pytest.raises(ValueError, match=f'f.npz: the label {label} is not among its 3 class_names'):
        FeatureFile(str(tmp_path / 'f.npz'))


def test_two_classes_of_one_name_are_not_merged(tmp_path):
    np.savez(tmp_path / 'f.npz', embeddings=features(3), labels=[0, 1, 2], class_names=['jay', 'jay', 'owl'])
    with pytest.raises(ValueError, match="f.npz: 'jay' is there 2 times among the class_names"):
        FeatureFile(str(tmp_path / 'f.npz'))


@pytest.mark.parametrize('value', [1e300, 1e-300])
def test_numbers_that_single_precision_does_not_hold_are_named(tmp_path, value):
    rows = np.array([[1.0, 0], [value, value], [0, 1], [0, 0]])
    np.savez(tmp_path / 'f.npz', embeddings=rows, labels=[0, 1, 0, 1])
    with pytest.raises(ValueError, match='f.npz: 1 of 4 embeddings leave the range of fp32.*the first is row 1'):
        FeatureFile(str(tmp_path / 'f.npz')).full_init()
    np.savez(tmp_path / 'f.npz', embeddings=rows[[0, 2, 3]], labels=[0, 1, 0])
    assert FeatureFile(str(tmp_path / 'f.npz')).width == 2


def test_further_columns_are_read_from_every_kind_of_file(tmp_path):
    pyarrow = pytest.importorskip('pyarrow')
    from pyarrow import parquet

    x, labels, coarse = features(4), ['a', 'b', 'a', 'b'], ['x', '', 'x', 'y']
    columns = dict(embeddings=x.tolist(), labels=labels, column_coarse=coarse)
    parquet.write_table(pyarrow.table(columns), tmp_path / 'f.parquet')
    sides = dict(embeddings=x, labels=labels, column_coarse=coarse)
    halves = {'query_': slice(0, 1), 'gallery_': slice(1, None)}
    both = {side + name: values[part] for side, part in halves.items() for name, values in sides.items()}
    np.savez(tmp_path / 'both.npz', **both)
    np.save(tmp_path / 'f.npy', x)
    rows = ''.join(f'{label},{cell}\n' for label, cell in zip(labels, coarse, strict=True))
    (tmp_path / 'table.csv').write_text(f'Label,Column_Coarse\n{rows}')
    for name, table in (('f.parquet', None), ('both.npz', None), ('f.npy', 'table.csv')):
        dataset = FeatureFile(name, label_file=table, data_root=str(tmp_path))
        assert dataset.columns['coarse'].tolist() == coarse, name
    np.savez(tmp_path / 'twice.npz', **both, column_coarse=coarse)
    with pytest.raises(ValueError, match="twice.npz has 'column_coarse' of both sides together, and of each"):
        FeatureFile('twice.npz', data_root=str(tmp_path))
