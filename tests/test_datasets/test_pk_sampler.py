"""The P x K sampler: what a batch holds, what an epoch reaches, and that ranks and resumed runs see the same order."""

import pickle
import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import BaseDataset
from mmengine.runner import loops
from torch.utils.data import DataLoader, Dataset

from mmdml.datasets.samplers import Draw, PKSampler
from mmdml.registry import DATA_SAMPLERS


class Labeled(Dataset):
    """The least that the sampler asks of a dataset; an item is its own index and repeat."""

    def __init__(self, labels):
        self.labels = np.asarray(labels)
        self.epochs = []

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return int(index), getattr(index, 'repeat', 0)

    def set_epoch(self, epoch):
        self.epochs.append(epoch)


def with_sizes(*sizes, shuffle=0):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return Labeled(np.random.default_rng(shuffle).permutation(labels))


def batches_of(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return np.array([int(index) for index in sampler]).reshape(-1, sampler.batch_size)


@pytest.fixture
def no_wrap_delay(monkeypatch):
    monkeypatch.setattr(loops.time, 'sleep', lambda seconds: None)  # MMEngine waits 2 s at every wrap-around


def test_cover_reaches_every_image_in_the_stated_number_of_batches():
    dataset = with_sizes(5, 4, 9, 2, 7, 4, 6, 3)
    sampler = PKSampler(dataset, 12, 4, seed=0)
    groups = 2 + 1 + 3 + 1 + 2 + 1 + 2 + 1
    assert len(sampler) == -(-groups // 3) * 12
    assert set(batches_of(sampler).ravel()) == set(range(len(dataset)))


def test_cover_batch_is_groups_of_k_images_of_distinct_classes():
    dataset = with_sizes(5, 4, 9, 2, 7, 4, 6, 3)
    for epoch in range(5):
        for batch in batches_of(PKSampler(dataset, 12, 4, seed=0), epoch):
            groups = dataset.labels[batch].reshape(3, 4)
            assert (groups == groups[:, :1]).all()
            assert len(set(groups[:, 0])) == 3


def test_cover_group_has_no_repeat_when_the_class_has_k_images():
    dataset = with_sizes(5, 4, 9, 11, 7, 4, 6, 13)
    for epoch in range(5):
        groups = batches_of(PKSampler(dataset, 12, 4, seed=3), epoch).reshape(-1, 4)
        assert all(len(set(group)) == 4 for group in groups)


def test_cover_fills_the_last_group_with_varying_images():
    dataset = with_sizes(5, 4, 4)
    of_class = np.flatnonzero(dataset.labels == 0)
    extra = Counter()
    for epoch in range(200):
        counts = Counter(batches_of(PKSampler(dataset, 8, 4, seed=1), epoch).ravel())
        extra.update(image for image in of_class for _ in range(counts[image] - 1))
    assert set(extra) == set(of_class)
    assert max(extra.values()) < 1.5 * min(extra.values())


def test_cover_added_group_is_not_always_one_of_the_class_s_own():
    dataset = with_sizes(8, 8, 8, 4)  # 7 groups in 3 batches of 3: two groups are added
    fresh = 0
    for epoch in range(30):
        groups = batches_of(PKSampler(dataset, 12, 4, seed=0), epoch).reshape(-1, 4)
        for label in range(3):
            of_class = [frozenset(group) for group in groups if dataset.labels[group[0]] == label]
            fresh += len(set(of_class)) > 2
    assert fresh > 0


def test_cover_small_class_repeats_its_images_evenly():
    dataset = with_sizes(3, 8, 8, 8)
    small = np.flatnonzero(dataset.labels == 0)
    groups = batches_of(PKSampler(dataset, 16, 8, seed=0)).reshape(-1, 8)
    of_small = [Counter(group) for group in groups if dataset.labels[group[0]] == 0]
    assert of_small
    for counts in of_small:
        assert set(counts) == set(small)
        assert set(counts.values()) == {2, 3}


def test_cover_spreads_a_class_that_has_as_many_groups_as_there_are_batches():
    dataset = with_sizes(12, 3, 3, 3, 3)  # 6 groups of 2 in 7 batches of 2 groups
    sampler = PKSampler(dataset, 4, 2, seed=0)
    for epoch in range(10):
        labels = dataset.labels[batches_of(sampler, epoch)]
        assert all(len(set(row)) == 2 for row in labels)


def test_cover_reaches_every_image_of_a_class_that_must_meet_itself():
    dataset = with_sizes(40, 2, 2)
    order = batches_of(PKSampler(dataset, 4, 2, seed=0))
    assert set(order.ravel()) == set(range(44))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 14), min_size=2, max_size=25),
    images_per_class=st.integers(1, 6),
    share=st.floats(0, 1),
    seed=st.integers(0, 5),
)
def test_cover_holds_for_any_class_sizes(sizes, images_per_class, share, seed):
    images_per_class = min(images_per_class, max(sizes))
    classes_per_batch = 1 + int(share * (len(sizes) - 1))
    dataset = with_sizes(*sizes)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        sampler = PKSampler(dataset, classes_per_batch * images_per_class, images_per_class, seed=seed)
    groups = [-(-size // images_per_class) for size in sizes]
    order = batches_of(sampler)
    assert len(order) == -(-sum(groups) // classes_per_batch)
    assert set(order.ravel()) == set(range(len(dataset)))
    labels = dataset.labels[order].reshape(len(order), classes_per_batch, images_per_class)
    assert (labels == labels[..., :1]).all()
    if max(groups) <= len(order):
        assert all(len(set(row)) == classes_per_batch for row in labels[..., 0])
    for group, label in zip(order.reshape(-1, images_per_class), labels[..., 0].ravel(), strict=True):
        assert len(set(group)) == min(images_per_class, sizes[label])


def test_repeats_of_an_image_count_up_and_first_uses_are_plain_ints():
    dataset = with_sizes(3, 8, 8, 9)
    seen = Counter()
    for index in PKSampler(dataset, 16, 8, seed=0):
        assert getattr(index, 'repeat', 0) == seen[int(index)]
        assert type(index) is (Draw if seen[int(index)] else int)
        seen[int(index)] += 1
    assert max(seen.values()) > 1


def test_draw_is_the_int_and_survives_pickling():
    draw = pickle.loads(pickle.dumps(Draw(7, 2)))
    assert draw == 7 and hash(draw) == hash(7) and draw.repeat == 2
    assert [10, 20, 30][Draw(1, 4)] == 20
    assert repr(draw) == 'Draw(7, repeat=2)'


def test_draw_reaches_the_data_set_in_worker_processes():
    dataset = with_sizes(2, 4, 4)
    sampler = PKSampler(dataset, 4, 4, seed=0)
    expected = [(int(index), getattr(index, 'repeat', 0)) for index in sampler]
    loader = DataLoader(dataset, batch_size=4, sampler=sampler, num_workers=1)
    got = [item for indices, repeats in loader for item in zip(indices.tolist(), repeats.tolist(), strict=True)]
    assert got == expected
    assert any(repeat for _, repeat in got)


@pytest.mark.parametrize('preset', ['cover', 'independent'])
def test_order_depends_on_seed_and_epoch_alone(preset):
    dataset = with_sizes(*[5] * 12)
    sampler = PKSampler(dataset, 12, 3, preset=preset, seed=4)
    late = batches_of(sampler, 3)
    first = batches_of(sampler, 0)
    assert (batches_of(PKSampler(dataset, 12, 3, preset=preset, seed=4), 3) == late).all()
    assert (batches_of(PKSampler(dataset, 12, 3, preset=preset, seed=4)) == first).all()
    assert (late != first).any()
    assert (batches_of(PKSampler(dataset, 12, 3, preset=preset, seed=5)) != first).any()


@pytest.mark.parametrize('preset, world_size', [('cover', 2), ('independent', 3)])
def test_ranks_are_disjoint_slices_of_what_one_process_sees(preset, world_size):
    dataset = with_sizes(7, 6, 5, 9, 8, 6, 7, 4, 5, 10)
    whole = PKSampler(dataset, 24, 3, preset=preset, seed=2)
    parts = [
        PKSampler(dataset, 24 // world_size, 3, preset=preset, seed=2, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert len({len(part) for part in parts}) == 1
    for epoch in range(3):
        slices = [batches_of(part, epoch) for part in parts]
        assert (np.concatenate(slices, axis=1) == batches_of(whole, epoch)).all()
        for step in zip(*slices, strict=True):
            assert len(set(np.concatenate(step))) == 24


def test_repeats_count_over_all_ranks():
    dataset = with_sizes(2, 4, 4, 4)
    whole = list(PKSampler(dataset, 16, 4, seed=0))
    parts = [list(PKSampler(dataset, 8, 4, seed=0, rank=rank, world_size=2)) for rank in range(2)]
    repeats = [[getattr(index, 'repeat', 0) for index in part] for part in (whole, parts[0] + parts[1])]
    assert repeats[0] == repeats[1]
    assert sum(repeats[0]) > 0


def test_released_has_floor_batches_capped_by_num_batches():
    dataset = with_sizes(*[5] * 11)  # 55 images
    assert len(PKSampler(dataset, 9, 3, preset='independent', seed=0)) == 6 * 9
    assert len(PKSampler(dataset, 9, 3, preset='independent', num_batches=4, seed=0)) == 4 * 9
    assert len(PKSampler(dataset, 9, 3, preset='independent', num_batches=40, seed=0)) == 6 * 9


def test_released_batch_is_whole_classes_and_a_ragged_last_one():
    sizes = [2, 3, 7, 1, 5, 4, 2, 9, 6, 3, 5, 8]
    dataset = with_sizes(*sizes)
    with pytest.warns(UserWarning, match='1 of 12 classes have a single image'):
        sampler = PKSampler(dataset, 13, 3, preset='independent', seed=0)
    for epoch in range(5):
        for batch in batches_of(sampler, epoch):
            assert len(set(batch)) == 13
            labels = dataset.labels[batch]
            classes = list(dict.fromkeys(labels))
            counts = Counter(labels)
            assert len(np.flatnonzero(np.diff(labels))) == len(classes) - 1  # side by side
            assert all(counts[label] == min(3, sizes[label]) for label in classes[:-1])
            assert 1 <= counts[classes[-1]] <= min(3, sizes[classes[-1]])


def naive_released_batch(labels, batch_size, images_per_class, rng):
    """The order of the released sampler, step by step."""
    batch = []
    for label in rng.permutation(np.unique(labels)):
        images = np.flatnonzero(labels == label)
        batch.extend(rng.permutation(images)[:images_per_class])
        if len(batch) >= batch_size:
            break
    return batch[:batch_size]


@pytest.mark.parametrize('num_classes', [6, 40])  # full permutations, and distinct draws from many classes
def test_released_draws_as_a_naive_walk_does(num_classes):
    sizes = [1, 2, 3, 4, 5, 6] + [4] * (num_classes - 6)
    dataset = with_sizes(*sizes)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        sampler = PKSampler(dataset, 7, 3, preset='independent', seed=0)
    rng = np.random.default_rng(1)
    ours = np.concatenate([batches_of(sampler, epoch) for epoch in range(4000 // sampler.num_batches)])
    naive = np.array([naive_released_batch(dataset.labels, 7, 3, rng) for _ in range(len(ours))])

    def frequency(batches):
        return np.bincount(batches.ravel(), minlength=len(dataset)) / len(batches)

    def last_group(batches):
        labels = dataset.labels[batches]
        return np.bincount((labels == labels[:, -1:]).sum(1), minlength=4) / len(batches)

    spread = 5 * np.sqrt(0.5 / len(ours))  # five standard errors of a difference of two frequencies, at most
    assert np.abs(frequency(ours) - frequency(naive)).max() < spread
    assert np.abs(frequency(ours[:, -1:]) - frequency(naive[:, -1:])).max() < spread
    assert np.abs(frequency(ours[:, :1]) - frequency(naive[:, :1])).max() < spread
    assert np.abs(last_group(ours) - last_group(naive)).max() < spread


def test_cover_epochs_of_fixed_length_walk_through_whole_covers():
    dataset = with_sizes(*[4] * 9)
    cover = PKSampler(dataset, 12, 4, seed=0)  # 3 batches
    short = PKSampler(dataset, 12, 4, num_batches=2, seed=0)
    assert len(short) == 24
    stream = np.concatenate([batches_of(cover, epoch) for epoch in range(2)])
    assert (np.concatenate([batches_of(short, epoch) for epoch in range(3)]) == stream).all()
    long = PKSampler(dataset, 12, 4, num_batches=6, seed=0)
    assert (batches_of(long) == stream).all()
    assert all(getattr(index, 'repeat', 0) == 1 for index in list(long)[36:])


@pytest.mark.parametrize('num_workers', [0, 2])
def test_skip_continues_the_uninterrupted_order_in_mmengine_loop(no_wrap_delay, num_workers):
    dataset = with_sizes(*[5] * 7, 3)

    def iterator():
        sampler = PKSampler(dataset, 6, 3, seed=5)
        loader = DataLoader(dataset, batch_size=6, sampler=sampler, num_workers=num_workers)
        return loops._InfiniteDataloaderIterator(loader), len(loader)

    running, per_epoch = iterator()
    stop = per_epoch + per_epoch // 2
    uninterrupted = [next(running) for _ in range(3 * per_epoch + 1)]
    resumed, _ = iterator()
    resumed.skip_iter(stop)
    for expected in uninterrupted[stop:]:
        indices, repeats = next(resumed)
        assert indices.tolist() == expected[0].tolist()
        assert repeats.tolist() == expected[1].tolist()


def test_skip_tells_the_data_set_the_epoch_it_reaches():
    dataset = with_sizes(4, 4, 4)
    sampler = PKSampler(dataset, 4, 4, seed=0)
    sampler.skip(2 * len(sampler) + 4)
    assert dataset.epochs[-1] == 2
    assert len(list(sampler)) == len(sampler) - 4
    assert len(list(sampler)) == len(sampler)
    sampler.set_epoch(1)
    assert dataset.epochs[-1] == 3
    with pytest.raises(ValueError, match='num_samples must not be negative, got -1'):
        sampler.skip(-1)


def test_run_state_restores_the_order_of_an_unset_seed():
    dataset = with_sizes(*[6] * 10)
    first = PKSampler(dataset, 8, 2)
    state = first.run_state()
    second = PKSampler(dataset, 8, 2)
    second.load_run_state(state)
    assert (batches_of(first, 1) == batches_of(second, 1)).all()
    assert {type(value) for value in state.values()} == {int}


def test_registry_builds_it_with_mmengine_default_arguments():
    dataset = with_sizes(4, 4, 4)
    config = dict(type='PKSampler', batch_size=8, images_per_class=4)
    sampler = DATA_SAMPLERS.build(config, default_args=dict(dataset=dataset, seed=3))
    assert isinstance(sampler, PKSampler) and sampler.seed == 3


def test_labels_come_from_an_mmengine_data_set_without_a_labels_array():
    class Pictures(BaseDataset):
        def load_data_list(self):
            return [dict(img_path=f'{i}.png', gt_label=i % 3 + 5) for i in range(12)]

    order = batches_of(PKSampler(Pictures(), 8, 4, seed=0))
    assert set(order.ravel()) == set(range(12))
    assert (order.reshape(-1, 4) % 3 == order.reshape(-1, 4)[:, :1] % 3).all()


@pytest.mark.parametrize(
    'sizes, options, message',
    [
        ((4, 4, 4), dict(batch_size=16, images_per_class=4), 'needs 4 distinct classes, but the dataset has 3'),
        ((4, 4, 4), dict(batch_size=8, images_per_class=4, rank=0, world_size=2), 'on each of 2 ranks.*at most 4'),
        ((3, 2, 3), dict(batch_size=4, images_per_class=4), 'images_per_class=4 is larger than every class.*3 images'),
        ((4, 4, 4), dict(batch_size=6, images_per_class=4), 'multiple of images_per_class, got 6 and 4'),
        ((4, 4, 4), dict(batch_size=4, images_per_class=0), 'images_per_class must be an integer of at least 1, got 0'),
        ((4, 4, 4), dict(batch_size=0, images_per_class=2), 'batch_size must be an integer of at least 1, got 0'),
        (
            (4, 4, 4),
            dict(batch_size=4, images_per_class=2, num_batches=0),
            'num_batches must be an integer of at least 1',
        ),
        (
            (4, 4, 4),
            dict(batch_size=4, images_per_class=2, num_batches=1.5),
            'num_batches must be an integer .*, got 1.5',
        ),
        ((4, 4, 4), dict(batch_size=4, images_per_class=None), 'images_per_class must be an integer .*, got None'),
        ((4, 4, 4), dict(batch_size=4.0, images_per_class=2), 'batch_size must be an integer .*, got 4.0'),
        ((4, 4, 4), dict(batch_size=4, images_per_class=2, seed=-1), 'seed must be an integer of at least 0, got -1'),
        ((4, 4, 4), dict(batch_size=4, images_per_class=2, world_size=0), 'world_size must be an integer .*, got 0'),
        ((4, 4, 4), dict(batch_size=4, images_per_class=2, images_per_epoch=0), 'images_per_epoch must be an integer'),
        ((4, 4, 4), dict(batch_size=4, images_per_class=2, preset='both'), "'cover' or 'independent', got 'both'"),
        ((4, 4, 4), dict(batch_size=4, images_per_class=2, rank=2, world_size=2), 'rank must be in 0..1'),
        ((4, 4, 4), dict(batch_size=9, images_per_class=2, preset='independent'), 'batch of 9 images .* offer 6'),
        ((), dict(batch_size=4, images_per_class=2), 'labels must be a non-empty'),
    ],
)
def test_bad_settings_are_named(sizes, options, message):
    with pytest.raises(ValueError, match=message):
        PKSampler(with_sizes(*sizes), **{'seed': 0, **options})


def test_single_image_classes_are_counted_in_one_warning():
    with pytest.warns(UserWarning, match='2 of 4 classes have a single image') as caught:
        PKSampler(with_sizes(1, 4, 1, 4), 4, 4, seed=0)
    assert len(caught) == 1


def test_images_without_a_label_are_refused():
    with pytest.raises(ValueError, match=r'2 of 6 images have no label \(-1\): .*train on a dataset with labels'):
        PKSampler(Labeled([0, 0, -1, 1, 1, -1]), 4, 2, seed=0)
