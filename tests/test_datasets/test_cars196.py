import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from scipy.io import savemat

from mmdml.datasets.official_files import read_matlab
from mmdml.registry import DATASETS

CARS = Path('/work/shared/data/cars196_trainhalf')
CONFIG = Path(__file__).parents[2] / 'configs/_base_/datasets/cars.py'
FIELDS = ('relative_im_path', 'bbox_x1', 'bbox_y1', 'bbox_x2', 'bbox_y2', 'class', 'test')


def write_annotations(root, rows, num_classes=196, names=None):
    """``cars_annos.mat`` as distributed: 1 x N structs and a 1 x C cell array; ``rows`` of (path, class id)."""
    annotations = np.zeros((1, len(rows)), dtype=[(field, object) for field in FIELDS])
    for i, (path, class_id) in enumerate(rows):
        # The authors' own split, every other image, which retrieval does not use.
        annotations[0, i] = (path, 1, 2, 30, 40, class_id, i % 2)
    cells = np.empty((1, num_classes), dtype=object)
    cells[0] = names or [f'Make Model {i}' for i in range(1, num_classes + 1)]
    savemat(root / 'cars_annos.mat', dict(annotations=annotations, class_names=cells))


@pytest.fixture
def tree(tmp_path):
    """All 196 classes, the second 98 first, two pictures each."""
    root = tmp_path / 'cars196'
    (root / 'car_ims').mkdir(parents=True)
    ids = [*range(99, 197), *range(1, 99)] * 2
    rows = [(f'car_ims/{i:06d}.jpg', class_id) for i, class_id in enumerate(ids, 1)]
    for path, class_id in rows:
        cv2.imwrite(str(root / path), np.full((4, 6, 3), class_id, np.uint8))
    write_annotations(root, rows)
    return root


@pytest.fixture(scope='module')
def cars(tmp_path_factory):
    """Two real cars of each class where they are there, else pictures of noise, in the official layout."""
    root = tmp_path_factory.mktemp('cars')
    (root / 'car_ims').mkdir()
    if CARS.is_dir():
        names = [line.split(maxsplit=1)[1].strip() for line in (CARS / 'classes.txt').open()]
        listed = [line.split() for part in ('train', 'test') for line in (CARS / f'{part}.txt').open()]
        chosen = [row for i, row in enumerate(listed) if i < 2 or listed[i - 2][1] != row[1]]
        with zipfile.ZipFile(CARS / 'images.zip') as archive:
            pictures = [(archive.read(path), int(label) + 1) for path, label in chosen]
    else:
        names = None
        noise = np.random.default_rng(0).integers(0, 256, (96, 130, 3), dtype=np.uint8)
        pictures = [(cv2.imencode('.jpg', noise)[1].tobytes(), i // 2 + 1) for i in range(392)]
    rows = []
    for i, (data, class_id) in enumerate(pictures, 1):
        rows.append((f'car_ims/{i:06d}.jpg', class_id))
        (root / rows[-1][0]).write_bytes(data)
    write_annotations(root, rows, names=names)
    return root


def build(root, **options):
    return DATASETS.build(dict(type='Cars196', data_root=str(root), **options))


def test_classes_1_to_98_train_and_99_to_196_test_whatever_the_field_test_says(tree):
    train, test = build(tree, split='train'), build(tree, split='test')
    assert train.metainfo['classes'] == [f'Make Model {i}' for i in range(1, 99)]
    assert test.metainfo['classes'] == [f'Make Model {i}' for i in range(99, 197)]
    assert train.labels.tolist() == test.labels.tolist() == list(range(98)) * 2
    assert train.labels.dtype == np.int64 and not test.metainfo['has_roles']
    assert test.get_data_info(0)['img_path'] == str(tree / 'car_ims/000001.jpg')
    assert train.get_data_info(0)['img_path'] == str(tree / 'car_ims/000099.jpg')


def test_validation_classes_are_the_last_training_classes(tree):
    train, val = (build(tree, split=split, val_classes=20) for split in ('train', 'val'))
    assert val.metainfo['classes'] == [f'Make Model {i}' for i in range(79, 99)]
    assert len(train.metainfo['classes']) == 78


def test_published_counts_add_up():
    counts = DATASETS.get('Cars196').COUNTS
    assert tuple(map(sum, zip(*counts.values(), strict=True))) == (196, 16185)


def test_real_cars_go_through_the_pipelines_of_the_config(cars):
    cfg = Config.fromfile(CONFIG)
    for loader, split in ((cfg.train_dataloader, 'train'), (cfg.test_dataloader, 'test')):
        dataset = DATASETS.build(dict(loader.dataset, data_root=str(cars)))
        assert (dataset.split, len(dataset), len(dataset.metainfo['classes'])) == (split, 196, 98)
        item = dataset[5]
        assert item['inputs'].shape == (3, 224, 224) and item['inputs'].float().std() > 1
        assert (item['data_samples'].sample_idx, int(item['data_samples'].gt_label)) == (5, 2)


def test_test_pipeline_squashes_the_whole_picture(cars):
    dataset = DATASETS.build(dict(Config.fromfile(CONFIG).test_dataloader.dataset, data_root=str(cars)))
    path = dataset.get_data_info(0)['img_path']
    cv2.imwrite(path, np.repeat(np.linspace(0, 255, 400)[None, :, None], 100, 0).repeat(3, 2).astype(np.uint8))
    # 16 of 256 columns are cut on either side: a picture 4 times as wide as high keeps 7/8 of its ramp.
    row = dataset[0]['inputs'][0, 100].float()
    assert abs(row[0] - 255 * 16 / 256) < 4 and abs(row[-1] - 255 * 240 / 256) < 4


def test_missing_parts_are_named_with_their_official_source(tree):
    (tree / 'cars_annos.mat').unlink()
    with pytest.raises(FileNotFoundError) as error:
        build(tree)
    for part in (str(tree), 'missing: cars_annos.mat.', 'ai.stanford.edu', 'car_ims.tgz'):
        assert part in str(error.value)


def test_file_that_is_no_matlab_file_is_an_error_that_names_it(tree):
    (tree / 'cars_annos.mat').write_text('<html>404 Not Found</html>' * 20)
    with pytest.raises(ValueError, match=r'cars_annos\.mat cannot be read as a MATLAB file'):
        build(tree)


def test_annotations_of_the_devkit_are_refused_with_the_fields_they_have(tree):
    devkit = np.zeros((1, 3), dtype=[('class', object), ('fname', object)])
    savemat(tree / 'cars_annos.mat', dict(annotations=devkit))
    with pytest.raises(ValueError, match=r"annotations and class_names; missing: \['class_names'\] .* not cars_train_"):
        build(tree)
    savemat(tree / 'cars_annos.mat', dict(annotations=devkit, class_names=['A', 'B']))
    with pytest.raises(ValueError, match=r"relative_im_path and class; it has \['class', 'fname'\] .*not cars_train_"):
        build(tree)


@pytest.mark.parametrize('wrong', [0, 197])
def test_class_without_a_name_is_an_error_that_names_the_image(tree, wrong):
    write_annotations(tree, [('car_ims/000001.jpg', 1), ('car_ims/000002.jpg', wrong)])
    with pytest.raises(ValueError, match=rf'image car_ims/000002\.jpg has class {wrong}, but .* 196 names'):
        build(tree)


def write_devkit(root, nested=False):
    """Today's layout: classes 1 and 99 in both of the authors' parts, whose file names are the same."""
    (root / 'devkit').mkdir(parents=True)
    fields = [(field, object) for field in ('bbox_x1', 'class', 'fname')]
    for part, ids in (('train', (99, 1)), ('test', (1, 99, 99))):
        folder = root / f'cars_{part}' / (f'cars_{part}' if nested else '')
        folder.mkdir(parents=True)
        annotations = np.zeros((1, len(ids)), dtype=fields)
        for i, class_id in enumerate(ids):
            annotations[0, i] = (1, class_id, f'{i + 1:05d}.jpg')
            cv2.imwrite(str(folder / f'{i + 1:05d}.jpg'), np.zeros((4, 6, 3), np.uint8))
        name = 'devkit/cars_train_annos.mat' if part == 'train' else 'cars_test_annos_withlabels.mat'
        savemat(root / name, dict(annotations=annotations))
    cells = np.empty((1, 196), dtype=object)
    cells[0] = [f'Make Model {i}' for i in range(1, 197)]
    savemat(root / 'devkit/cars_meta.mat', dict(class_names=cells))
    return root


@pytest.mark.parametrize('labels_in_devkit', [False, True])
@pytest.mark.parametrize('nested', [False, True])
def test_the_layout_of_today_has_the_same_split_over_both_of_its_parts(tmp_path, labels_in_devkit, nested):
    root = write_devkit(tmp_path / 'cars', nested=nested)
    if labels_in_devkit:
        (root / 'cars_test_annos_withlabels.mat').rename(root / 'devkit/cars_test_annos_withlabels.mat')
    train, test = build(root, split='train'), build(root, split='test')
    assert train.metainfo['classes'][0] == 'Make Model 1' and test.metainfo['classes'][0] == 'Make Model 99'
    folders = [f'cars_{part}/cars_{part}' if nested else f'cars_{part}' for part in ('train', 'test')]
    assert [train.get_data_info(i)['img_path'] for i in range(2)] == [
        str(root / folders[0] / '00002.jpg'),
        str(root / folders[1] / '00001.jpg'),
    ]
    assert len(test) == 3 and set(test.labels.tolist()) == {0}


def test_the_layout_of_today_without_labels_of_its_test_part_names_what_is_missing(tmp_path):
    root = write_devkit(tmp_path / 'cars')
    (root / 'cars_test_annos_withlabels.mat').unlink()
    with pytest.raises(FileNotFoundError, match=r'missing: cars_test_annos_withlabels\.mat\. '):
        build(root)


def test_class_that_is_no_whole_number_is_refused(tree):
    write_annotations(tree, [('car_ims/000001.jpg', 1), ('car_ims/000002.jpg', 2.5)])
    with pytest.raises(ValueError, match=r'cars_annos\.mat: class of image 2 of 2 is 2\.5, expected a whole number'):
        build(tree)


def test_matlab_file_that_unpacks_to_too_much_is_refused_with_the_number(tmp_path):
    savemat(tmp_path / 'a.mat', dict(labels=np.zeros(3_000_000)), do_compression=True)
    assert (tmp_path / 'a.mat').stat().st_size < 100_000
    assert len(read_matlab(str(tmp_path / 'a.mat'), ('labels',))['labels']) == 3_000_000
    with pytest.raises(ValueError, match=r'a\.mat holds [\d,]+ bytes of variables or more, the limit is 20,000,000'):
        read_matlab(str(tmp_path / 'a.mat'), ('labels',), max_bytes=20_000_000)
