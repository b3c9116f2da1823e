import cv2
import numpy as np
import pytest

from mmdml.registry import DATASETS

HEADER = '#Image CLASS-ID SPECIES BREED ID\n#ID: 1:37 Class ids\n#SPECIES: 1:Cat 2:Dog\n#All images\n'
# Breeds of several words; the order of the class ids ignores case, so it is not that of the names.
BREEDS = [f'{"Cat" if i % 2 else "some_dog"}_{i}' for i in range(1, 38)]


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / 'pets'
    (root / 'annotations').mkdir(parents=True)
    (root / 'images').mkdir()
    rows = []
    for number in (100, 7):
        for class_id, breed in reversed(list(enumerate(BREEDS, 1))):
            rows.append(f'{breed}_{number} {class_id} {1 if class_id % 2 else 2} {(class_id + 1) // 2}')
            cv2.imwrite(str(root / f'images/{breed}_{number}.jpg'), np.full((4, 4, 3), class_id, np.uint8))
    (root / 'annotations/list.txt').write_text(HEADER + '\n'.join(rows) + '\n')
    cv2.imwrite(str(root / 'images/Egyptian_Mau_139.jpg'), np.zeros((4, 4, 3), np.uint8))
    return root


def build(root, **options):
    return DATASETS.build(dict(type='OxfordPets', data_root=str(root), **options))


def test_breeds_1_to_18_train_and_the_others_test(tree):
    train, test = build(tree, split='train'), build(tree, split='test')
    assert train.metainfo['classes'] == BREEDS[:18] and test.metainfo['classes'] == BREEDS[18:]
    assert train.labels.tolist() == [*range(17, -1, -1)] * 2 and len(test) == 38
    assert train.get_data_info(0)['img_path'] == str(tree / 'images/some_dog_18_100.jpg')


def test_species_of_every_breed(tree):
    species = build(tree).metainfo['species_of']
    assert len(species) == 37 and (species['Cat_1'], species['some_dog_2']) == ('cat', 'dog')


@pytest.mark.parametrize('line', ['Abyssinian 1 1 1', 'Abyssinian_5 1 3 1', 'Abyssinian_5 1 1', 'Abyssinian_x 1 1 1'])
def test_malformed_line_is_an_error_with_its_number(tree, line):
    path = tree / 'annotations/list.txt'
    path.write_text(HEADER + line + '\n')
    with pytest.raises(ValueError) as error:
        build(tree)
    assert f'{path}, line 5: expected "image class_id species breed_id", got {line!r}' in str(error.value)


def test_missing_list_is_named(tree):
    (tree / 'annotations/list.txt').unlink()
    with pytest.raises(FileNotFoundError, match=r'missing: annotations/list\.txt\. .*annotations\.tar\.gz'):
        build(tree)
