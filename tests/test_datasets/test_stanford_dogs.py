import cv2
import numpy as np
import pytest
from scipy.io import savemat

from mmdml.registry import DATASETS

FOLDERS = [f'n{2085620 + i:08d}-{"Blenheim_spaniel" if i == 3 else f"black-and-tan_{i}"}' for i in range(120)]


def write_list(root, paths, labels):
    """``file_list.mat`` as distributed: N x 1 cells and N x 1 numbers."""
    cells = np.empty((len(paths), 1), dtype=object)
    cells[:, 0] = paths
    savemat(root / 'file_list.mat', dict(file_list=cells, labels=np.array(labels, dtype=np.float64)[:, None]))


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / 'dogs'
    paths = [f'{folder}/{folder.split("-")[0]}_{i}.jpg' for folder in FOLDERS for i in (10074, 7)]
    for path in paths:
        (root / 'Images' / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / 'Images' / path), np.zeros((4, 4, 3), np.uint8))
    write_list(root, paths, np.repeat(np.arange(1, 121), 2))
    return root


def build(root, **options):
    return DATASETS.build(dict(type='StanfordDogs', data_root=str(root), **options))


def test_first_60_breeds_train_and_the_others_test(tree):
    train, test = build(tree, split='train'), build(tree, split='test')
    assert train.labels.tolist() == test.labels.tolist() == np.repeat(np.arange(60), 2).tolist()
    assert train.metainfo['classes'][2:5] == ['black-and-tan_2', 'Blenheim_spaniel', 'black-and-tan_4']
    assert test.metainfo['classes'] == [f'black-and-tan_{i}' for i in range(60, 120)]
    assert test.get_data_info(0)['img_path'] == str(tree / f'Images/{FOLDERS[60]}/n02085680_10074.jpg')


def test_list_with_more_images_than_labels_is_an_error(tree):
    write_list(tree, [f'{FOLDERS[0]}/a.jpg'] * 3, [1, 1])
    with pytest.raises(ValueError, match=r'file_list\.mat has 3 images in file_list, but 2 labels'):
        build(tree)


def test_missing_or_wrong_list_is_named(tree):
    savemat(tree / 'file_list.mat', dict(labels=[1]))
    with pytest.raises(ValueError, match=r"must hold file_list and labels; missing: \['file_list'\]"):
        build(tree)
    (tree / 'file_list.mat').unlink()
    with pytest.raises(FileNotFoundError, match=r'missing: file_list\.mat\. .*lists\.tar'):
        build(tree)
