"""mmdml/engine/evaluated_data.py: what is scored is called what it is."""

import pytest

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
