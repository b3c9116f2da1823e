import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmdml.datasets import GALLERY, QUERY, QUERY_AND_GALLERY, ImageList
from mmdml.evaluation.metrics import RetrievalMetric
from mmdml.registry import DATASETS

CONFIGS = Path(__file__).parents[2] / 'configs'


def build(folder, text, **options):
    (folder / 'list.txt').write_text(text, encoding='utf-8')
    for name in ('a.png', 'b.png', 'two words.png'):
        cv2.imwrite(str(folder / name), np.zeros((4, 4), np.uint8))
    return DATASETS.build(dict(type='ImageList', ann_file='list.txt', data_root=str(folder), **options))


def test_whole_number_labels_are_ordered_by_number(tmp_path):
    dataset = build(tmp_path, 'a.png 10\nb.png 9\na.png 10\n')
    assert dataset.metainfo['classes'] == ['9', '10']
    assert dataset.labels.tolist() == [1, 0, 1]


def test_word_labels_are_ordered_by_name(tmp_path):
    dataset = build(tmp_path, 'a.png wren\nb.png 9\n')
    assert dataset.metainfo['classes'] == ['9', 'wren']
    assert dataset.labels.tolist() == [1, 0]


def test_path_may_hold_blanks(tmp_path):
    dataset = build(tmp_path, 'two words.png  wren\n')
    assert dataset.get_data_info(0)['img_path'] == str(tmp_path / 'two words.png')


def test_comments_empty_lines_and_byte_order_mark_are_skipped(tmp_path):
    dataset = build(tmp_path, '\ufeff# birds\n\na.png 0\n   \n# more\nb.png 0\n')
    assert len(dataset) == 2
    assert dataset.get_data_info(0)['img_path'] == str(tmp_path / 'a.png')


def test_roles_come_from_the_third_column(tmp_path):
    dataset = build(tmp_path, 'a.png 0 query\ntwo words.png 0 gallery\nb.png 0 both\n', roles=True)
    infos = [dataset.get_data_info(i) for i in range(3)]
    assert [info['role'] for info in infos] == [QUERY, GALLERY, QUERY_AND_GALLERY]
    assert infos[1]['img_path'] == str(tmp_path / 'two words.png')


def test_images_may_lie_in_another_folder(tmp_path):
    (tmp_path / 'pictures').mkdir()
    cv2.imwrite(str(tmp_path / 'pictures' / 'c.png'), np.zeros((4, 4), np.uint8))
    dataset = build(tmp_path, 'c.png 0\n', data_prefix='pictures')
    assert dataset.get_data_info(0)['img_path'] == str(tmp_path / 'pictures' / 'c.png')


@pytest.mark.parametrize('line', ['b.png', 'onlyonefield'])
def test_broken_line_is_an_error_with_file_number_and_line(tmp_path, line):
    with pytest.raises(ValueError, match=rf"list\.txt, line 3: expected \"path label\", got '{line}'"):
        build(tmp_path, f'a.png 0\n# comment\n{line}\n')


@pytest.mark.parametrize('line', ['b.png 0', 'b.png 0 probe'])
def test_broken_role_is_an_error_with_file_number_and_line(tmp_path, line):
    with pytest.raises(ValueError, match=rf"list\.txt, line 2: expected .*query, gallery or both, got '{line}'"):
        build(tmp_path, f'a.png 0 query\n{line}\n', roles=True)


def test_missing_list_is_an_error_with_its_absolute_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path / 'none.txt')):
        DATASETS.build(dict(type='ImageList', ann_file='none.txt', data_root=str(tmp_path)))


def test_list_without_images_is_an_error_with_its_absolute_path(tmp_path):
    with pytest.raises(ValueError, match=f"no image in split='train': {tmp_path / 'list.txt'}"):
        build(tmp_path, '# nothing\n')


@pytest.mark.parametrize('mark', [b'', b'\xef\xbb\xbf'])
def test_list_that_is_not_utf8_is_an_error_with_file_and_line(tmp_path, mark):
    (tmp_path / 'list.txt').write_bytes(mark + 'é.png 0\n'.encode() + 'ü.png 0\n'.encode('latin-1'))
    with pytest.raises(ValueError) as error:
        DATASETS.build(dict(type='ImageList', ann_file='list.txt', data_root=str(tmp_path)))
    assert str(error.value).startswith(f"{tmp_path}/list.txt, line 2 is not UTF-8: it has the byte b'\\xfc'. Save")


def test_line_separators_of_unicode_may_be_part_of_a_name(tmp_path):
    name = 'a\u2028b\x85c\x0cd.png'
    cv2.imwrite(str(tmp_path / name), np.zeros((4, 4), np.uint8))
    dataset = build(tmp_path, f'a.png 0\r\n{name} 1\r\n')
    assert [dataset.get_data_info(i)['img_path'] for i in range(2)] == [str(tmp_path / 'a.png'), str(tmp_path / name)]


@pytest.mark.parametrize('first, second', [('1', '01'), ('7', '+7')])
def test_one_number_written_in_two_ways_is_an_error_that_names_both(tmp_path, first, second):
    with pytest.raises(ValueError) as error:
        build(tmp_path, f'a.png {first}\nb.png {second}\ntwo words.png 3\n')
    assert f'{tmp_path}/list.txt: the labels' in str(error.value)
    assert repr(first) in str(error.value) and repr(second) in str(error.value)
    # Beside a word they are names as well.
    dataset = build(tmp_path, f'a.png {first}\nb.png {second}\ntwo words.png wren\n')
    assert dataset.metainfo['classes'] == sorted([first, second, 'wren'])


def test_path_with_two_labels_is_an_error_that_names_path_and_labels(tmp_path):
    message = r"list\.txt, line 3: two words\.png has label 'owl', but 'wren' above; an image has one label"
    with pytest.raises(ValueError, match=message):
        build(tmp_path, 'two words.png wren\na.png owl\ntwo words.png owl\n')
    roles = build(tmp_path, 'a.png wren query\na.png wren gallery\n', roles=True)
    assert len(roles) == 2


# ---- real pictures ----

GROCERY = Path('/work/shared/data/grocery')


@pytest.mark.skipif(not GROCERY.is_dir(), reason='the pictures of the Grocery Store dataset are not on this machine')
def test_the_grocery_store_data_set_is_read_through_the_pipelines_of_a_config(tmp_path):
    with zipfile.ZipFile(GROCERY / 'images.zip') as archive:
        archive.extractall(tmp_path)
    cfg = Config.fromfile(CONFIGS / '_base_/datasets/cars.py')
    classes = {}
    for split, images in (('train', 2979), ('test', 2442)):
        dataset = DATASETS.build(
            dict(
                type='ImageList',
                ann_file=str(GROCERY / f'{split}.txt'),
                data_root=str(tmp_path),
                split=split,
                test_mode=split == 'test',
                pipeline=cfg[f'{split}_pipeline'],
                seed=0,
            )
        )
        assert len(dataset) == images
        classes[split] = set(dataset.metainfo['classes'])
        for index in (0, images // 2, images - 1):
            item = dataset[index]
            assert item['inputs'].shape == (3, 224, 224) and item['inputs'].float().std() > 1
            assert int(item['data_samples'].gt_label) == dataset.labels[index]
    assert [len(names) for names in classes.values()] == [40, 41]
    assert not classes['train'] & classes['test']


# ---- tables ----


def build_table(folder, text, name='list.csv', **options):
    build(folder, 'a.png 0\n')
    (folder / name).write_text(text, encoding='utf-8')
    return DATASETS.build(dict(type='ImageList', ann_file=name, data_root=str(folder), **options))


@pytest.mark.parametrize('name, delimiter', [('a.csv', ','), ('a.csv', ';'), ('a.tsv', '\t'), ('a.txt', ',')])
def test_table_has_named_columns_in_any_order(tmp_path, name, delimiter):
    rows = ['label,Path,ROLE,Camera,note', '2,a.png,query,c1,7', '10,two words.png,Gallery,c2,8', '2,b.png,both,c1,9']
    text = ''.join(row.replace(',', delimiter) + '\n' for row in rows)
    dataset = build_table(tmp_path, text, name)
    assert dataset.metainfo['classes'] == ['2', '10'] and dataset.labels.tolist() == [0, 1, 0]
    assert dataset.get_data_info(1) == dict(
        img_path=str(tmp_path / 'two words.png'), gt_label=1, role=GALLERY, camera='c2', note=8, sample_idx=1
    )
    assert dataset.metainfo['has_roles'] and dataset.metainfo['columns'] == ['camera', 'note']
    assert {name: values.tolist() for name, values in dataset.columns.items()} == dict(
        camera=['c1', 'c2', 'c1'], note=[7, 8, 9]
    )
    assert dataset.get_subset([2, 0]).columns['note'].tolist() == [9, 7]


def test_columns_reach_the_samples_through_meta_keys(tmp_path):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='mmpretrain.PackInputs', meta_keys=('sample_idx', 'camera'))]
    dataset = build_table(tmp_path, 'path,label,camera\na.png,0,left\nb.png,0,right\n', pipeline=pipeline)
    assert [dataset[i]['data_samples'].camera for i in range(2)] == ['left', 'right']


def test_numbers_with_leading_zeros_stay_text(tmp_path):
    dataset = build_table(tmp_path, 'path,label,id\na.png,0,007\nb.png,0,008\n')
    assert dataset.columns['id'].tolist() == ['007', '008']


@pytest.mark.parametrize(
    'text, message',
    [
        ('path,role\na.png,both\n', r"has no column 'label', its header names \['path', 'role'\]; .*unlabeled=True"),
        ('file,label\na.png,0\n', "has no column 'path'"),
        ('path,label,label\na.png,0,1\n', "line 1: the column 'label' stands twice"),
        ('path,label,img_path\na.png,0,1\n', "has a column 'img_path'; the name is taken"),
        ('path,label\na.png,0\nb.png\n', r'line 3: expected 2 values'),
        ('path,label\na.png,0\nb.png,\n', 'line 3: the label is empty'),
        ('path,label\n,0\n', 'line 2: the path is empty'),
        ('path,label,role\na.png,0,probe\n', "line 2: expected a role query, gallery or both, got 'probe'"),
    ],
)
def test_wrong_table_is_an_error_that_names_file_and_fault(tmp_path, text, message):
    with pytest.raises(ValueError, match=f'{tmp_path}/list.csv.*{message}'):
        build_table(tmp_path, text)


def test_table_without_roles_where_they_are_asked_for_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="has no column 'role'"):
        build_table(tmp_path, 'path,label\na.png,0\n', roles=True)


def test_images_without_labels_are_listed_by_path_alone(tmp_path):
    plain = build(tmp_path, 'a.png\ntwo words.png\n', unlabeled=True)
    table = build_table(tmp_path, 'path,camera\na.png,1\ntwo words.png,2\n', unlabeled=True)
    for dataset in (plain, table):
        assert dataset.labels.tolist() == [-1, -1] and dataset.metainfo['classes'] == []
        assert dataset.metainfo['unlabeled'] and dataset.summary.num_classes == 0
        assert dataset.get_data_info(1)['img_path'] == str(tmp_path / 'two words.png')
    with pytest.raises(ValueError, match="column 'label'; unlabeled=True is for images without labels"):
        build_table(tmp_path, 'path,label\na.png,1\n', unlabeled=True)


# ---- what a label and an image are ----


def test_digits_with_an_underscore_are_a_name_and_no_number(tmp_path):
    dataset = build(tmp_path, 'a.png 1_0\nb.png 10\ntwo words.png 9\n')
    assert dataset.metainfo['classes'] == ['10', '1_0', '9']


@pytest.mark.parametrize('other', ['./a.png', '../{folder}/a.png', 'link.png'])
def test_one_file_under_two_names_has_one_label(tmp_path, other):
    other = other.format(folder=tmp_path.name)
    (tmp_path / 'link.png').symlink_to('a.png')
    with pytest.raises(ValueError, match=rf"line 2: {other} has label 'owl', but 'wren' above in line 1, as a\.png"):
        build(tmp_path, f'a.png wren\n{other} owl\n')
    assert len(build(tmp_path, f'a.png wren\n{other} wren\n')) == 2


def test_list_in_utf16_is_read_and_one_in_latin_1_names_file_line_and_remedy(tmp_path):
    build(tmp_path, 'a.png 0\n')
    (tmp_path / 'wide.txt').write_bytes('a.png gr\u00fcn\n'.encode('utf-16'))
    options = dict(type='ImageList', data_root=str(tmp_path))
    assert DATASETS.build(dict(options, ann_file='wide.txt')).metainfo['classes'] == ['gr\u00fcn']
    (tmp_path / 'narrow.csv').write_bytes('path,label\na.png,gr\u00fcn\n'.encode('latin-1'))
    with pytest.raises(ValueError, match=r'narrow\.csv, line 2 is not UTF-8.*iconv'):
        DATASETS.build(dict(options, ann_file='narrow.csv'))


def test_groups_of_the_metric_are_a_text_column_of_the_table(tmp_path):
    # The nearest image of the query has its label and its camera, the next one another label.
    angles, rows = (0.0, 0.1, 0.2, 0.3), ['a.png,0,query,left', 'b.png,0,gallery,left', 'c.png,1,gallery,left']
    rows.append('d.png,0,gallery,right')
    for name in 'cd':
        cv2.imwrite(str(tmp_path / f'{name}.png'), np.zeros((4, 4), np.uint8))
    pack = dict(type='mmpretrain.PackInputs', meta_keys=('sample_idx', 'img_path', 'role', 'camera'))
    table = '\n'.join(['path,label,role,camera', *rows])
    dataset = build_table(tmp_path, table, pipeline=[dict(type='LoadImageFromFile'), pack], split='test')
    scores = {}
    for groups in (None, 'camera'):
        metric = RetrievalMetric(recall_at=(1, 2), metrics=('Recall@K',), groups=groups)
        metric.dataset_meta = dataset.metainfo
        samples = [dataset[i]['data_samples'].to_dict() for i in range(4)]
        for sample, angle in zip(samples, angles, strict=True):
            sample['embedding'] = torch.tensor([np.cos(angle), np.sin(angle)], dtype=torch.float32)
        metric.process(None, samples)
        scores[groups] = metric.evaluate(4)
    assert scores[None] == {'retrieval/Recall@1': 100.0, 'retrieval/Recall@2': 100.0}
    assert scores['camera'] == {'retrieval/Recall@1': 0.0, 'retrieval/Recall@2': 100.0}


def test_a_table_of_classes_gives_columns_of_their_images(tmp_path):
    (tmp_path / 'classes.csv').write_text('coarse,label,price\nbird,wren,7\nfish,eel,8\nbird,owl,9\n')
    dataset = build(tmp_path, 'a.png wren\nb.png eel\n', class_file='classes.csv')
    assert {name: values.tolist() for name, values in dataset.columns.items()} == dict(
        coarse=['bird', 'fish'], price=[7, 8]
    )
    assert dataset.get_data_info(1)['coarse'] == 'fish'
    for text, fault in (('label\nwren\n', "lacks 1 of the labels, the first is 'eel'"),
                        ('class,x\nwren,1\n', "has no column 'label'"),
                        ('label\nwren\nwren\neel\n', 'has a label twice')):  # fmt: skip
        (tmp_path / 'classes.csv').write_text(text)
        with pytest.raises(ValueError, match=fault):
            build(tmp_path, 'a.png wren\nb.png eel\n', class_file='classes.csv')


def test_a_cell_of_several_labels_is_the_class_of_its_first_one(tmp_path):
    dataset = build(tmp_path, 'a.png cat=0.7;dog=0.3\nb.png dog\n', separator=';')
    assert dataset.metainfo['classes'] == ['cat', 'dog'] and dataset.labels.tolist() == [0, 1]
    assert dataset.columns['labels'].tolist() == ['cat=0.7|dog=0.3', 'dog']
    with pytest.raises(ValueError, match='line 2: the first label is empty'):
        build(tmp_path, 'a.png cat\nb.png |dog\n', separator='|')
    with pytest.raises(ValueError, match='unlabeled=True has none'):
        build(tmp_path, 'a.png\n', separator='|', unlabeled=True)


def test_a_column_with_the_word_none_is_text(tmp_path, pictures):
    names = [f'class_0/{n}.png' for n in range(2)]
    table = tmp_path / 'list.csv'
    table.write_text(f'path,label,age\n{names[0]},a,12\n{names[1]},b,None\n')
    assert ImageList(str(table), data_root=pictures).columns['age'].tolist() == ['12', 'None']


@pytest.mark.parametrize('name', ['gt_label', 'role', 'age', 'img_path'])
def test_a_column_of_the_classes_whose_name_is_taken_is_refused(tmp_path, pictures, name):
    (tmp_path / 'list.csv').write_text('path,label,age\nclass_0/0.png,a,3\nclass_1/0.png,b,4\n')
    (tmp_path / 'classes.csv').write_text(f'label,{name}\na,7\nb,8\n')
    with pytest.raises(ValueError, match=f"classes.csv has a column '{name}'; the name is taken"):
        ImageList(str(tmp_path / 'list.csv'), data_root=pictures, class_file=str(tmp_path / 'classes.csv'))
