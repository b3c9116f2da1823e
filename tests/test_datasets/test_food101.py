import cv2
import numpy as np
import pytest

from mmdml.registry import DATASETS

DISHES = [f'dish_{i:03d}' for i in range(1, 102)]


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / 'food-101'
    (root / 'meta').mkdir(parents=True)
    (root / 'meta/classes.txt').write_text('\n'.join(DISHES) + '\n')
    for part, number in (('train', 1005649), ('test', 11)):
        (root / f'meta/{part}.txt').write_text(''.join(f'{dish}/{number}\n' for dish in DISHES))
        for dish in DISHES:
            (root / 'images' / dish).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / f'images/{dish}/{number}.jpg'), np.zeros((4, 4, 3), np.uint8))
    return root


def build(root, **options):
    return DATASETS.build(dict(type='Food101', data_root=str(root), **options))


def test_first_50_dishes_train_and_the_other_51_test_over_both_official_lists(tree):
    train, test = build(tree, split='train'), build(tree, split='test')
    assert train.metainfo['classes'] == DISHES[:50] and test.metainfo['classes'] == DISHES[50:]
    assert train.labels.tolist() == [*range(50)] * 2 and test.labels.tolist() == [*range(51)] * 2
    paths = [test.get_data_info(i)['img_path'] for i in (0, 51)]
    assert paths == [str(tree / 'images/dish_051/1005649.jpg'), str(tree / 'images/dish_051/11.jpg')]


@pytest.mark.parametrize('line', ['dish_001', 'dish_001/', 'pizza/5'])
def test_line_without_a_known_dish_is_an_error_with_its_number(tree, line):
    path = tree / 'meta/test.txt'
    path.write_text(f'dish_001/11\n{line}\n')
    with pytest.raises(ValueError) as error:
        build(tree)
    assert f'{path}, line 2: expected "class/number" with a class of classes.txt, got {line!r}' in str(error.value)


def test_missing_parts_are_named(tree):
    (tree / 'meta/classes.txt').unlink()
    with pytest.raises(FileNotFoundError, match=r'missing: meta/classes\.txt\. .*food-101\.tar\.gz'):
        build(tree)
