import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from mmdml.cli.dataset_report import sources_of
from mmdml.datasets.preparation.counts import load_split, official_splits
from mmdml.datasets.preparation.image_check import image_problem
from mmdml.registry import DATASETS

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'tools/misc/verify_dataset.py'
spec = importlib.util.spec_from_file_location('verify_dataset', SCRIPT)
verify_dataset = importlib.util.module_from_spec(spec)
spec.loader.exec_module(verify_dataset)

NOISE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
JPEG, PNG = (cv2.imencode(suffix, NOISE)[1].tobytes() for suffix in ('.jpg', '.png'))


@pytest.fixture
def market(tmp_path, monkeypatch):
    """A whole Market-1501 of three training persons and one that is searched."""
    root = tmp_path / 'market'
    names = [f'bounding_box_train/000{i}_c1s1_000451_03.jpg' for i in (2, 3, 4)]
    names += ['query/0001_c1s1_001051_00.jpg', 'bounding_box_test/0001_c2s1_000151_01.jpg']
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(JPEG)
    monkeypatch.setattr(DATASETS.get('Market1501'), 'COUNTS', {'train': (3, 3), 'test': (1, 2)})
    return root


def verify(capsys, *arguments):
    """Exit code and what was printed."""
    code = verify_dataset.main(list(map(str, arguments)))
    return code, capsys.readouterr().out


def test_whole_data_set_is_counted_and_opened(market, capsys):
    code, printed = verify(capsys, 'Market1501', '--data-root', market)
    assert code == 0
    assert printed.splitlines() == [
        f'Market1501 in {market}',
        '  split  classes  expected  images  expected',
        '  train        3         3       3         3  ok',
        '  test         1         1       2         2  ok',
        '5 images open, 0 do not',
    ]


def test_wrong_count_is_named_and_sets_the_exit_code(market, capsys):
    next(market.glob('bounding_box_train/0003*')).unlink()
    code, printed = verify(capsys, 'Market1501', '--data-root', market, '--no-images')
    assert code == 1
    assert '  train        2         3       2         3  WRONG' in printed.splitlines()
    assert printed.splitlines()[-1] == ('split train: expected 3 classes and 3 images, found 2 classes and 2 images')
    assert verify(capsys, 'Market1501', '--data-root', market, '--split', 'test')[0] == 0


def write_list(root, contents):
    """An ImageList of pictures with these bytes; None for one that is not there."""
    names = [f'{i:02d}.jpg' for i in range(len(contents))]
    for name, data in zip(names, contents, strict=True):
        if data is not None:
            (root / name).write_bytes(data)
    (root / 'train.txt').write_text(''.join(f'{name} {i % 2}\n' for i, name in enumerate(names)))
    config = dict(type='ImageList', data_root=str(root), ann_file='train.txt')
    (root / 'config.py').write_text(f'train_dataloader = dict(dataset={config!r})\n')
    return root / 'config.py'


def jpeg(*flags):
    return cv2.imencode('.jpg', NOISE, flags)[1].tobytes()


def segment(mark, content):
    return bytes([0xFF, mark]) + (len(content) + 2).to_bytes(2, 'big') + content


# A thumbnail in its Exif segment, fill bytes, a comment that holds both marks.
HEADED = b''.join(
    [JPEG[:2], segment(0xE1, b'Exif\0\0' + JPEG), b'\xff\xff', segment(0xFE, b'\xff\xda\xff\xd9'), JPEG[2:]]
)
PROGRESSIVE = jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
RESTARTING = jpeg(cv2.IMWRITE_JPEG_RST_INTERVAL, 1)


@pytest.mark.parametrize('whole', [JPEG, HEADED, PROGRESSIVE, RESTARTING])
@pytest.mark.parametrize('behind', [b'', b'\0' * 40, b'film \xff\xda film', JPEG[:200], JPEG])
def test_jpeg_is_whole_whatever_comes_before_and_behind_it(tmp_path, whole, behind):
    (tmp_path / 'a.jpg').write_bytes(whole + behind)
    assert image_problem(str(tmp_path / 'a.jpg')) == ''


@pytest.mark.parametrize('whole', [JPEG, HEADED, PROGRESSIVE, RESTARTING])
def test_jpeg_without_its_end_is_cut_short_wherever_it_was_cut(tmp_path, whole):
    for length in (*range(2, len(whole) - 1, 29), len(whole) - 2, len(whole) - 1):
        (tmp_path / 'a.jpg').write_bytes(whole[:length])
        assert image_problem(str(tmp_path / 'a.jpg')) == 'is cut short', length


@pytest.mark.parametrize('workers', [1, 3])
def test_every_kind_of_broken_image_is_named(tmp_path, capsys, workers):
    # Bytes behind the end mark are no fault, and a name may say another format.
    contents = [JPEG, None, b'', b'<html>', JPEG[: len(JPEG) // 2], PNG[:300], JPEG + b'\0' * 40, PNG]
    config = write_list(tmp_path, contents)
    code, printed = verify(capsys, config, '--num-workers', workers)
    assert code == 1
    assert printed.splitlines()[-6:] == [
        '3 images open, 5 do not',
        f'  {tmp_path}/01.jpg is missing',
        f'  {tmp_path}/02.jpg is empty',
        f"  {tmp_path}/03.jpg is no picture that OpenCV decodes; it begins with b'<html>'",
        f'  {tmp_path}/04.jpg is cut short',
        rf"  {tmp_path}/05.jpg is no picture that OpenCV decodes; it begins with b'\x89PNG\r\n\x1a\n'",
    ]


def test_only_the_first_broken_images_are_listed_but_json_has_all(tmp_path, capsys):
    config = write_list(tmp_path, [JPEG, *[b''] * 25])
    code, printed = verify(capsys, config)
    assert code == 1 and printed.splitlines()[-1] == '  and 5 more' and printed.count('is empty') == 20
    code, printed = verify(capsys, config, '--json')
    report = json.loads(printed)
    assert code == 1 and len(report) == 1 and report[0]['ok'] is False
    assert report[0]['images']['opened'] == 1 and len(report[0]['images']['broken']) == 25
    assert report[0]['images']['broken'][0] == {'path': f'{tmp_path}/01.jpg', 'problem': 'is empty'}
    assert report[0]['splits'] == [{'split': 'train', 'classes': 2, 'images': 26, 'expected': None, 'problem': ''}]


def test_missing_folder_is_an_error_of_each_split(tmp_path, capsys):
    code, printed = verify(capsys, 'Market1501', '--data-root', tmp_path / 'none', '--json')
    problems = [split['problem'] for split in json.loads(printed)[0]['splits']]
    assert code == 1 and len(problems) == 2
    assert all(f'{tmp_path}/none; missing:' in problem for problem in problems)


def test_config_stands_for_its_data_set_whatever_part_the_loaders_take(market, tmp_path, capsys):
    part = dict(type='Market1501', data_root=str(market), val_classes=1)
    (tmp_path / 'config.py').write_text(
        f'train_dataloader = dict(dataset=dict(type="RepeatDataset", times=2, dataset={part!r}))\n'
        f'val_dataloader = dict(dataset=dict(split="val", **{part!r}))\n'
        f'test_dataloader = dict(dataset=dict(split="test", test_mode=True, **{part!r}))\n'
    )
    code, printed = verify(capsys, tmp_path / 'config.py')
    assert code == 0 and printed.count('Market1501 in') == 1
    assert printed.splitlines()[-1] == '5 images open, 0 do not'


def test_parts_of_a_concatenation_are_checked_each(pictures, market, tmp_path, capsys):
    parts = [dict(type='ImageFolder', data_root=pictures), dict(type='Market1501', data_root=str(market))]
    dataset = dict(type='RetrievalConcatDataset', label_space='disjoint', datasets=parts)
    (tmp_path / 'config.py').write_text(f'train_dataloader = dict(dataset={dataset!r})\n')
    code, printed = verify(capsys, tmp_path / 'config.py', '--no-images')
    assert code == 0
    assert '  train        8         -      36         -  no official count' in printed.splitlines()
    assert '  test         1         1       2         2  ok' in printed.splitlines()


def write_birds(root, num_classes):
    names = [f'{i:03d}.Bird' for i in range(1, num_classes + 1)]
    for name in names:
        (root / 'images' / name).mkdir(parents=True)
        (root / 'images' / name / 'a.jpg').write_bytes(JPEG)
    columns = dict(images=[f'{name}/a.jpg' for name in names], classes=names)
    columns['image_class_labels'] = range(1, num_classes + 1)
    for list_name, values in columns.items():
        (root / f'{list_name}.txt').write_text(''.join(f'{i} {value}\n' for i, value in enumerate(values, 1)))


def test_reduced_copy_is_not_held_against_the_official_counts(tmp_path, capsys):
    write_birds(tmp_path / 'birds', 7)
    for classes in (3, 100):
        loaders = [
            f'{split}_dataloader = dict(dataset=dict(type="CUB200", data_root={str(tmp_path / "birds")!r}, '
            f'split="{split}", train_classes={classes}))\n'
            for split in ('train', 'test')
        ]
        (tmp_path / f'{classes}.py').write_text(''.join(loaders))
    code, printed = verify(capsys, tmp_path / '3.py')
    assert code == 0
    assert printed.splitlines()[2:] == [
        '  train        3         -       3         -  no official count',
        '  test         4         -       4         -  no official count',
        '7 images open, 0 do not',
    ]
    code, printed = verify(capsys, tmp_path / '100.py', '--json')
    splits = json.loads(printed)[0]['splits']
    assert code == 1 and splits[0]['expected'] == dict(classes=100, images=5864)


def test_another_folder_is_for_one_folder_only(market, pictures, tmp_path, capsys):
    part = dict(type='Market1501', data_root='nowhere')
    lists = [dict(type='ImageFolder', data_root=pictures), dict(type='ImageFolder', data_root='elsewhere')]
    for name, parts in (('one', [part, part]), ('types', [lists[0], part]), ('folders', lists)):
        dataset = dict(type='RetrievalConcatDataset', label_space='disjoint', datasets=parts)
        (tmp_path / f'{name}.py').write_text(f'train_dataloader = dict(dataset={dataset!r})\n')
    assert verify(capsys, tmp_path / 'one.py', '--data-root', market, '--no-images')[0] == 0
    with pytest.raises(SystemExit, match=rf'has 2: ImageFolder in {pictures}, Market1501 in nowhere'):
        verify_dataset.main([str(tmp_path / 'types.py'), '--data-root', str(market)])
    with pytest.raises(SystemExit, match='has 2: ImageFolder in .*, ImageFolder in '):
        verify_dataset.main([str(tmp_path / 'folders.py'), '--data-root', str(market)])


def test_class_that_has_no_image_is_not_found(tmp_path):
    flowers, shop = tmp_path / 'flowers', tmp_path / 'shop'
    (flowers / 'jpg').mkdir(parents=True)
    (shop / 'img').mkdir(parents=True)
    savemat(flowers / 'imagelabels.mat', dict(labels=np.array([[1, 2, 2, 60]])))
    (flowers / 'jpg/image_00001.jpg').write_bytes(JPEG)
    (flowers / 'jpg/image_00004.jpg').write_bytes(JPEG)
    report = load_split(
        'all', 'OxfordFlowers102', dict(data_root=str(flowers)), *official_splits('OxfordFlowers102')['all']
    )
    assert report.found == (3, 4)
    assert report.problem == 'expected 102 classes and 8,189 images, found 3 classes and 4 images'
    rows = [f'img/{i}_{part}.jpg id_{i} {part}' for i, part in ((1, 'query'), (1, 'gallery'), (2, 'gallery'))]
    (shop / 'list_eval_partition.txt').write_text('\n'.join(['3', 'image_name item_id evaluation_status', *rows]))
    (shop / 'img/1_query.jpg').write_bytes(JPEG)
    report = load_split('query', 'InShop', dict(data_root=str(shop)), *official_splits('InShop')['query'])
    assert report.found == (1, 1)


def test_official_config_is_understood(market, capsys):
    config = ROOT / 'configs/_base_/datasets/vehicleid.py'
    sources = sources_of(str(config), None, None)
    assert [(each.type_name, each.options) for each in sources] == [('VehicleID', {'data_root': 'data/VehicleID_V1.0'})]
    assert list(sources[0].splits) == ['train', 'small', 'medium', 'large', 'full']


def test_images_that_a_data_set_holds_in_memory_need_no_file(capsys):
    code, printed = verify(capsys, 'Omniglot', '--split', 'test')
    assert code == 0 and printed.splitlines()[-1] == '13,180 images open, 0 do not'


@pytest.mark.parametrize(
    'name, split, parts, expected',
    [
        ('InShop', 'query', [dict(split='query')], (3985, 14218)),
        ('VehicleID', 'medium', [dict(split='test', size='medium')], (1600, 13377)),
        ('VehicleID', 'train', [dict(split='train')], (13164, 113346)),
        ('OxfordPets', 'all', [dict(split='train'), dict(split='test')], (37, 7349)),
        ('OxfordPets', 'test', [dict(split='test')], None),
    ],
)
def test_official_splits_and_their_counts(name, split, parts, expected):
    assert official_splits(name)[split] == (parts, expected)


def test_unknown_data_set_or_split_names_the_known_ones(market, capsys):
    with pytest.raises(SystemExit, match=r"Birds: 'Birds' is no retrieval dataset .* CUB200, Cars196, "):
        verify_dataset.main(['Birds'])
    with pytest.raises(SystemExit, match='--split small is unknown, choose one of train, test'):
        verify_dataset.main(['Market1501', '--data-root', str(market), '--split', 'small'])
    with pytest.raises(SystemExit, match='ann_file'):
        verify_dataset.main(['ImageList', '--data-root', str(market)])


def test_what_a_scan_leaves_out_is_reported(tmp_path, capsys):
    for name in ('a/1.png', 'a/2.png', 'b/1.png', 'b/2.png', 'loose.png', 'a/notes.txt'):
        (tmp_path / 'pictures' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'pictures' / name).write_bytes(PNG)
    code, printed = verify(capsys, folder_config(tmp_path, 'pictures'))
    assert code == 0 and '4 images open, 0 do not' in printed
    assert 'note: ImageFolder: 1 pictures in' in printed and 'e.g. loose.png' in printed
    assert '(.txt 1), e.g. a/notes.txt' in printed
    # Nothing beside the report is on stdout, for scripts.
    command = [sys.executable, SCRIPT, folder_config(tmp_path, 'pictures'), '--json', '--no-images']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    report = json.loads(done.stdout)[0]
    assert len(report['left_out']) == 2 and 'loose.png' in report['left_out'][0]


def folder_config(root, name):
    dataset = dict(type='ImageFolder', data_root=str(root / name))
    (root / 'config.py').write_text(f'train_dataloader = dict(dataset={dataset!r})\n')
    return root / 'config.py'


def test_pipe_on_a_list_is_named_and_does_not_hang(tmp_path, capsys):
    config = write_list(tmp_path, [JPEG, None])
    os.mkfifo(tmp_path / '01.jpg')
    code, printed = verify(capsys, config)
    assert code == 1 and printed.splitlines()[-2] == '1 images open, 1 do not'
    assert '01.jpg is refused: ' in printed and 'is a pipe, not a picture' in printed


def test_picture_of_too_many_pixels_is_broken(tmp_path, capsys):
    config = write_list(tmp_path, [JPEG, PNG])
    assert verify(capsys, config)[0] == 0
    code, printed = verify(capsys, config, '--max-pixels', 1599)
    assert code == 1 and '00.jpg is refused: it has 40 x 40 = 1,600 pixels, the limit is max_pixels=1,599' in printed


def test_names_that_are_no_utf8_are_printed(tmp_path, capsys):
    folder = os.path.join(os.fsencode(tmp_path), b'pictures', b'caf\xe9')
    os.makedirs(folder)
    for name in (b'1.png', b'2.png'):
        with open(os.path.join(folder, name), 'wb') as file:
            file.write(PNG if name == b'1.png' else b'')
    code, printed = verify(capsys, folder_config(tmp_path, 'pictures'))
    assert code == 1 and r'caf\xe9/2.png is empty' in printed and printed.encode('utf-8')
