"""mmdml/engine/evaluated_data.py: what is scored is called what it is."""

import numpy as np
import pytest

from mmdml.datasets import FeatureFile
from mmdml.engine.evaluated_data import describe_evaluated


class Data:
    """A data set of pictures ``class/number.png``."""

    def __init__(self, split, classes, pictures=2, root='photos', start=0):
        self.split = split
        self.metainfo = dict(classes=list(classes))
        self.paths = [f'{root}/{name}/{i}.png' for name in classes for i in range(start, start + pictures)]

    def __repr__(self):
        # Test ids must be the same in every worker of xdist.
        return f'{self.split} of {self.metainfo["classes"]}, pictures {self.paths[0]} to {self.paths[-1]}'

    def __len__(self):
        return len(self.paths)

    def get_data_info(self, number):
        return dict(img_path=self.paths[number])


TRAINED = Data('train', 'abcd')


@pytest.mark.parametrize(
    'evaluated, words',
    [
        (Data('test', 'efgh'), 'test classes'),
        (Data('val', 'ef'), 'validation classes'),
        (Data('train', 'abcd'), 'training classes'),
        (Data('test', 'abcd'), 'training classes, 8 of 8 pictures trained on'),
        (Data('test', 'abcd', root='photos/../photos'), 'training classes, 8 of 8 pictures trained on'),
        (Data('test', 'abcd', start=2), 'training classes, other pictures'),
        (Data('test', 'defg', start=1), 'test classes, 1 of 4 trained on, 1 of 8 pictures trained on'),
        (Data('test', 'defg', start=2), 'test classes, 1 of 4 trained on'),
        (Data('train', 'efgh', root='other'), 'classes not trained on'),
        (Data('train', 'defg', root='other'), 'validation data, 1 of 4 trained on'),
        (Data('test', 'e'), 'test classes, one class only: every result is right'),
    ],
    ids=str,
)
def test_the_name_says_what_of_it_is_trained_on(evaluated, words):
    assert describe_evaluated(evaluated, TRAINED) == words


def test_without_the_training_data_the_split_decides():
    assert describe_evaluated(Data('test', 'abcd')) == 'test classes'


def features(folder, name, rows, **columns):
    np.savez(folder / name, embeddings=rows, labels=np.arange(len(rows)) % 2, **columns)
    return FeatureFile(str(folder / name), split='train' if name == 'train.npz' else 'test')


def test_features_without_paths_are_compared_by_their_values(tmp_path):
    rows = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    trained = features(tmp_path, 'train.npz', rows)
    same = features(tmp_path, 'same.npz', rows, paths=[f'{n}.jpg' for n in range(6)])
    assert describe_evaluated(same, trained) == 'training classes, 6 of 6 pictures trained on'
    some = features(tmp_path, 'some.npz', np.concatenate([rows[:2], rows[:4] + 1]))
    assert describe_evaluated(some, trained) == 'training classes, 2 of 6 pictures trained on'
    # The same picture may have other features, of another backbone for instance.
    other = features(tmp_path, 'other.npz', rows + 1)
    assert describe_evaluated(other, trained) == 'training classes, whether its pictures are trained on is not known'


def test_pictures_of_features_are_compared_by_their_paths(tmp_path):
    rows = np.ones((2, 4), dtype=np.float32)
    trained = features(tmp_path, 'train.npz', rows, paths=['s3://bucket/a.jpg', 's3://bucket/b.jpg'])
    other = features(tmp_path, 'other.npz', rows, paths=['s3://bucket/c.jpg', 's3://bucket/d.jpg'])
    assert describe_evaluated(other, trained) == 'training classes, other pictures'
    one = features(tmp_path, 'one.npz', rows + 1, paths=['s3://bucket/b.jpg', 's3://bucket/d.jpg'])
    assert describe_evaluated(one, trained) == 'training classes, 1 of 2 pictures trained on'
