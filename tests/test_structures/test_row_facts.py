"""mmdml/structures/row_facts.py: which rows are one image, and facts that contradict each other."""

import numpy as np
import pytest
import torch

from mmdml.structures import RowFacts
from mmdml.structures.row_facts import image_identity, image_ids


def test_rows_of_one_file_are_one_image_however_its_path_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'sub').mkdir()
    (tmp_path / 'a.png').write_bytes(b'')
    (tmp_path / 'link.png').symlink_to(tmp_path / 'a.png')
    (tmp_path / 'other').symlink_to(tmp_path / 'sub')
    names = ['a.png', './a.png', 'sub/../a.png', f'{tmp_path}/a.png', 'link.png', 'b.png', 'sub/b.png', 'other/b.png']
    ids = image_ids(names)
    assert len(set(ids[:5].tolist())) == 1
    assert ids[6] == ids[7] and len(set(ids.tolist())) == 3


def test_addresses_stay_as_they_are():
    assert image_identity('s3://bucket/../a.png') == 's3://bucket/../a.png'


def test_rows_without_a_path_are_images_of_their_own():
    assert len(set(image_ids(['', 'a.png', '', 'a.png', '']).tolist())) == 4
    assert len(set(RowFacts.of([1, 1, 2]).ids.tolist())) == 3


def test_ids_are_taken_from_paths_and_given_ids_come_first():
    first, second, other = RowFacts.of([1, 1, 2], paths=['a', './a', 'b']).ids.tolist()
    assert first == second != other
    assert RowFacts.of([1, 1, 2], ids=[5, 6, 7], paths=['a', './a', 'b']).ids.tolist() == [5, 6, 7]


def test_one_file_with_two_labels_is_refused_by_name():
    with pytest.raises(ValueError, match=r'x/a\.png and \./x/a\.png are one image, but have the labels 3 and 4'):
        RowFacts.of([3, 0, 4], paths=['x/a.png', 'b.png', './x/a.png'])


@pytest.mark.parametrize(
    'known, words',
    [
        (dict(labels=[]), 'labels must be a vector of at least one entry'),
        (dict(labels=[1, 1], paths=['a']), r'paths must have shape \(2,\), one per label, got \(1,\)'),
        (dict(labels=[1, 1], roles=[0, 3]), r'roles must be 0 \(both\), 1 \(query\) or 2 \(gallery\), got \[3\]'),
        (dict(labels=[0, 2], class_names=['a', 'b']), 'there are 2 class_names, but labels from 0 to 2'),
    ],
)
def test_facts_that_do_not_fit_are_named(known, words):
    with pytest.raises(ValueError, match=words):
        RowFacts.of(**known)


def test_some_rows_keep_all_their_facts():
    facts = RowFacts.of(
        torch.tensor([0, 1, 1]), groups=[7, 8, 9], parts=['x', 'y', 'y'], paths=['a', 'b', 'c'], class_names=['u', 'v']
    )
    some = facts.take(np.array([2, 0]))
    assert len(some) == 2 and some.class_names == ('u', 'v')
    found = {name: values.tolist() for name, values in some.columns().items()}
    assert found.pop('ids') == image_ids(['c', 'a']).tolist()
    assert found == dict(labels=[1, 0], roles=[0, 0], groups=[9, 7], parts=['y', 'x'], paths=['c', 'a'])


def test_a_relative_path_is_of_the_current_folder(tmp_path, monkeypatch):
    names = []
    for name in ('one', 'two'):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        names.append((image_identity('a.png'), image_identity('./b/../a.png')))
    assert names == [(str(tmp_path / name / 'a.png'),) * 2 for name in ('one', 'two')]
