import cv2
import numpy as np
import pytest
from scipy.io import savemat

from mmdml.registry import DATASETS


@pytest.fixture
def tree(tmp_path):
    """One picture of each class, the last class first."""
    root = tmp_path / 'flowers102'
    (root / 'jpg').mkdir(parents=True)
    labels = np.arange(102, 0, -1, dtype=np.uint8)
    for number, label in enumerate(labels, 1):
        cv2.imwrite(str(root / f'jpg/image_{number:05d}.jpg'), np.full((4, 4, 3), label, np.uint8))
    savemat(root / 'imagelabels.mat', dict(labels=labels[None]))
    return root


def build(root, **options):
    return DATASETS.build(dict(type='OxfordFlowers102', data_root=str(root), **options))


def test_first_51_classes_train_and_the_others_test(tree):
    train, test = build(tree, split='train'), build(tree, split='test')
    assert train.metainfo['classes'] == [str(i) for i in range(1, 52)]
    assert test.metainfo['classes'] == [str(i) for i in range(52, 103)]
    assert train.labels.tolist() == test.labels.tolist() == list(range(50, -1, -1))
    # The labels are unsigned bytes in the file: class 0 must not become 255.
    assert test.get_data_info(0)['img_path'] == str(tree / 'jpg/image_00001.jpg')
    assert train.get_data_info(50)['img_path'] == str(tree / 'jpg/image_00102.jpg')


def test_pictures_are_read(tree):
    dataset = build(tree, split='test', pipeline=[dict(type='LoadImageFromFile')])
    assert abs(int(dataset[0]['img'][0, 0, 0]) - 102) <= 2


@pytest.mark.parametrize('wrong', [0, 103])
def test_class_out_of_range_is_an_error_that_names_the_image(tree, wrong):
    savemat(tree / 'imagelabels.mat', dict(labels=np.array([[1, wrong]], dtype=np.uint8)))
    with pytest.raises(ValueError, match=rf'image_00002\.jpg has class {wrong}, expected 1 to 102'):
        build(tree)


def test_missing_or_wrong_files_are_named(tree):
    savemat(tree / 'imagelabels.mat', dict(trnid=[1]))
    with pytest.raises(ValueError, match=r"imagelabels\.mat must hold labels; missing: \['labels'\]"):
        build(tree)
    (tree / 'imagelabels.mat').unlink()
    with pytest.raises(FileNotFoundError, match=r'missing: imagelabels\.mat\. .*102flowers\.tgz'):
        build(tree)
