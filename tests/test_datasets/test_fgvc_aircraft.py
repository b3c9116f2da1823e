import cv2
import numpy as np
import pytest

from mmdml.registry import DATASETS

# Names with blanks, slashes and dashes.
VARIANTS = ['707-320', 'F/A-18', 'Fokker 100', *(f'Variant {i}' for i in range(4, 101))]


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / 'fgvc-aircraft-2013b' / 'data'
    (root / 'images').mkdir(parents=True)
    (root / 'variants.txt').write_text('\n'.join(VARIANTS) + '\n')
    for part, start in (('trainval', 1000000), ('test', 2000000)):
        rows = [f'{start + i} {variant}' for i, variant in enumerate(VARIANTS)]
        (root / f'images_variant_{part}.txt').write_text('\n'.join(rows) + '\n')
        for i in range(100):
            cv2.imwrite(str(root / f'images/{start + i}.jpg'), np.full((4, 4, 3), i, np.uint8))
    return root


def build(root, **options):
    return DATASETS.build(dict(type='FGVCAircraft', data_root=str(root), **options))


def test_first_50_variants_train_and_the_others_test_over_both_official_lists(tree):
    train, test = build(tree, split='train'), build(tree, split='test')
    assert train.metainfo['classes'] == VARIANTS[:50] and test.metainfo['classes'] == VARIANTS[50:]
    assert train.labels.tolist() == test.labels.tolist() == [*range(50)] * 2
    paths = [train.get_data_info(i)['img_path'] for i in (2, 52)]
    assert paths == [str(tree / 'images/1000002.jpg'), str(tree / 'images/2000002.jpg')]


@pytest.mark.parametrize('line', ['1000000', '1000000 Fokker', ' 1000000  '])
def test_line_without_a_known_variant_is_an_error_with_its_number(tree, line):
    path = tree / 'images_variant_test.txt'
    path.write_text(f'2000000 Fokker 100\n{line}\n')
    with pytest.raises(ValueError) as error:
        build(tree)
    expected = f'{path}, line 2: expected "image variant" with a variant of variants.txt, got {line.strip()!r}'
    assert expected in str(error.value)


def test_missing_parts_are_named(tree):
    (tree / 'variants.txt').unlink()
    (tree / 'images_variant_test.txt').unlink()
    with pytest.raises(FileNotFoundError, match=r'missing: variants\.txt, images_variant_test\.txt\. .*2013b\.tar\.gz'):
        build(tree)
