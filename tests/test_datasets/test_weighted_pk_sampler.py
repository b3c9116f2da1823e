"""The weighted P x K sampler: which classes a batch holds, and that ranks and resumed runs see the same order."""

from collections import Counter

import numpy as np
import pytest

from mmdml.datasets.samplers import PKSampler, WeightedPKSampler


class Listed:
    """Ten classes of 2 to 11 images in three super-classes of 1, 3 and 6 classes."""

    def __init__(self):
        labels = np.repeat(np.arange(10), np.arange(2, 12))
        self.labels = np.random.default_rng(0).permutation(labels)
        self.columns = dict(coarse=np.array(['milk', *['fruit'] * 3, *['tea'] * 6])[self.labels], number=labels)
        self.metainfo = dict(classes=[f'class {label}' for label in range(10)])

    def __len__(self):
        return len(self.labels)

    def set_epoch(self, epoch):
        self.epoch = epoch


DATA = Listed()


def batches_of(epoch=0, **options):
    options = dict(batch_size=12, images_per_class=3, num_batches=200, seed=0) | options
    sampler = WeightedPKSampler(DATA, **options)
    sampler.set_epoch(epoch)
    return np.array([int(index) for index in sampler]).reshape(-1, options['batch_size'])


def test_a_batch_is_distinct_classes_with_k_images_each():
    for batch in batches_of():
        groups, images = DATA.labels[batch].reshape(4, 3), batch.reshape(4, 3)
        assert (groups == groups[:, :1]).all() and len(set(groups[:, 0])) == 4
        # Class 0 has two images and repeats one of them.
        assert [len(set(group)) for group in images.tolist()] == [3 - (label == 0) for label in groups[:, 0]]


@pytest.mark.parametrize(
    'weights, expected',
    [
        ('uniform', np.ones(10)),
        ('size', np.arange(2, 12)),
        ('sqrt', np.sqrt(np.arange(2, 12))),
        ({'class 3': 4.0, 'class 7': 0.0}, np.array([1, 1, 1, 4, 1, 1, 1, 0, 1, 1])),
    ],
    ids=['uniform', 'size', 'sqrt', 'names'],
)
def test_classes_come_in_proportion_to_their_weights(weights, expected):
    # One class a batch: the first draw of each, which is exactly in proportion.
    drawn = DATA.labels[batches_of(batch_size=3, num_batches=3000, class_weights=weights)[:, 0]]
    share = expected / expected.sum()
    found = np.bincount(drawn, minlength=10) / 3000
    assert (np.abs(found - share) <= 4 * np.sqrt(share * (1 - share) / 3000)).all()


def test_super_classes_give_equally_many_classes_and_small_ones_all_they_have():
    numbers = Counter()
    for batch in batches_of(super_class='coarse', batch_size=18):
        numbers[tuple(sorted(Counter(DATA.columns['coarse'][batch[::3]].tolist()).items()))] += 1
    assert all(dict(found)['milk'] == 1 and {dict(found)['fruit'], dict(found)['tea']} == {2, 3} for found in numbers)


@pytest.mark.parametrize('options', [dict(batch_size=12), dict(batch_size=6), dict(batch_size=6, number=3)], ids=str)
def test_what_equal_numbers_leave_over_goes_to_each_super_class_alike(options):
    number = options.pop('number', None)
    classes = np.repeat(np.arange(3), [4, 8, 16])
    data = Listed()
    data.labels = np.repeat(np.arange(28), 3)
    data.columns = dict(coarse=classes[data.labels])
    options = dict(images_per_class=3, num_batches=1500, seed=0, super_class='coarse') | options
    sampler = WeightedPKSampler(data, super_classes_per_batch=number, **options)
    drawn = data.columns['coarse'][[int(index) for index in sampler]]
    shares = np.bincount(drawn) / len(drawn)
    assert np.abs(shares - 1 / 3).max() < 0.03


def test_few_super_classes_a_batch_and_more_where_they_lack_classes():
    for batch in batches_of(super_class='coarse', super_classes_per_batch=1, batch_size=9):
        found = Counter(DATA.columns['coarse'][batch[::3]].tolist())
        # Milk has one class only, so another super-class helps out.
        assert len(found) == 1 or (found['milk'] == 1 and len(found) == 2)
    alone = [batch for batch in batches_of(super_class='coarse', super_classes_per_batch=1, batch_size=3)]
    shares = Counter(DATA.columns['coarse'][np.array(alone)[:, 0]].tolist())
    assert all(abs(number - 200 / 3) < 30 for number in shares.values()) and len(shares) == 3


@pytest.mark.parametrize('options', [dict(class_weights='size'), dict(super_class='coarse')], ids=str)
def test_ranks_together_see_what_one_process_does(options):
    whole = batches_of(epoch=3, batch_size=24, images_per_class=6, **options)
    parts = [
        batches_of(epoch=3, batch_size=12, images_per_class=6, rank=rank, world_size=2, **options) for rank in (0, 1)
    ]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)
    assert not np.array_equal(batches_of(epoch=4, batch_size=24, images_per_class=6, **options), whole)


def test_a_resumed_run_continues_with_the_same_draws():
    def new(seed):
        return WeightedPKSampler(DATA, 12, 3, super_class='coarse', num_batches=5, seed=seed)

    first, again = new(7), new(8)
    draws = []
    for epoch in range(3):
        first.set_epoch(epoch)
        draws += [(int(draw), getattr(draw, 'repeat', 0)) for draw in first]
    again.load_run_state(first.run_state())
    again.skip(60 + 24)
    again.set_epoch(0)  # as MMEngine's iteration-based loop does
    assert [(int(draw), getattr(draw, 'repeat', 0)) for draw in again] == draws[84:120]
    assert len(set(draws[:60])) == 60  # an image that comes again is another draw


@pytest.mark.parametrize('kind', [PKSampler, WeightedPKSampler])
def test_an_epoch_has_a_given_number_of_images(kind):
    sampler = kind(DATA, 12, 3, images_per_epoch=100, seed=0)
    assert len(sampler) == 108 and len(list(sampler)) == 108
    assert len(kind(DATA, 12, 3, images_per_epoch=100, seed=0, rank=1, world_size=2)) == 60
    with pytest.raises(ValueError, match='must stand alone, got 9 and num_batches=3'):
        kind(DATA, 12, 3, images_per_epoch=9, num_batches=3)


@pytest.mark.parametrize(
    'options, fault',
    [
        (dict(class_weights='log'), "class_weights must be one of .*, got 'log'"),
        (dict(class_weights={'clas 3': 2}), "has 'clas 3', which is no class; did you mean 'class 3'"),
        (dict(class_weights={'class 3': -1}), r"class_weights\['class 3'\] must be 0 or more, got -1"),
        (dict(class_weights={f'class {i}': 0 for i in range(7)}), 'needs 4 distinct classes, but only 3 have a weight'),
        (dict(super_class='fine'), r"super_class='fine' is no column of the dataset, which has \['coarse', 'number'\]"),
        (dict(super_class='number'), "super_class='number' differs within"),
        (dict(super_classes_per_batch=2), 'needs super_class'),
        (dict(batch_size=10), 'batch_size must be a multiple of images_per_class'),
    ],
    ids=str,
)
def test_bad_options_are_named(options, fault):
    with pytest.raises(ValueError, match=fault):
        batches_of(**options)
