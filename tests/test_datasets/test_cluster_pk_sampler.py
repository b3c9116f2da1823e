"""The single-cluster P x K sampler: purity, what small clusters yield, which cluster a step draws, and resuming."""

import io
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.runner import loops
from torch.utils.data import DataLoader, Dataset

from mmdml.datasets.samplers import ClusterPKSampler, Draw, PKSampler
from mmdml.datasets.samplers.orders import ClassTable, small_cluster_order
from mmdml.registry import DATA_SAMPLERS

ORDERS = ['uniform', 'proportional', 'round_robin']


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


def with_clusters(*clusters, left_out=0, shuffle=0):
    """Dataset and assignment: each cluster a list of class sizes, class numbers shared by the clusters."""
    labels = [label for sizes in clusters for label, size in enumerate(sizes) for _ in range(size)]
    assignment = [k for k, sizes in enumerate(clusters) for _ in range(sum(sizes))]
    labels, assignment = labels + [0] * left_out, assignment + [-1] * left_out
    places = np.random.default_rng(shuffle).permutation(len(labels))
    return Labeled(np.array(labels)[places]), np.array(assignment)[places]


def sampler_of(dataset, assignment, num_clusters, batch_size, images_per_class, **options):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # single-image classes
        sampler = ClusterPKSampler(dataset, batch_size, images_per_class, **{'seed': 0, **options})
    sampler.set_assignment(assignment, num_clusters)
    return sampler


def batches_of(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return np.array([int(index) for index in sampler]).reshape(-1, sampler.batch_size)


def even(num_clusters=4, classes=6, size=5):
    return with_clusters(*[[size] * classes] * num_clusters)


@pytest.mark.parametrize('cluster_order', ORDERS)
def test_batch_is_p_distinct_classes_times_k_images_of_the_cluster_of_its_step(cluster_order):
    dataset, assignment = even()
    sampler = sampler_of(dataset, assignment, 4, 12, 3, cluster_order=cluster_order)
    for epoch in range(4):
        for step, batch in enumerate(batches_of(sampler, epoch)):
            assert set(assignment[batch]) == {sampler.cluster_of_step(epoch, step)}
            assert len(set(batch)) == 12
            groups = dataset.labels[batch].reshape(4, 3)
            assert (groups == groups[:, :1]).all()
            assert len(set(groups[:, 0])) == 4


@pytest.mark.parametrize('num_clusters', [1, 5])
@pytest.mark.parametrize('batch_size', [11, 27])  # all classes together offer just 27 images
def test_one_cluster_is_bit_equal_to_the_plain_sampler(batch_size, num_clusters):
    dataset, _ = with_clusters([7, 1, 3, 9, 2, 8, 5, 4, 6, 6])
    with pytest.warns(UserWarning, match='1 of 10 classes have a single image'):
        plain = PKSampler(dataset, batch_size, 3, preset='independent', seed=6)
    sampler = sampler_of(dataset, np.full(len(dataset), num_clusters - 1), num_clusters, batch_size, 3, seed=6)
    assert len(sampler) == len(plain)
    for epoch in range(4):
        plain.set_epoch(epoch)
        expected = [(int(index), getattr(index, 'repeat', 0)) for index in plain]
        sampler.set_epoch(epoch)
        assert [(int(index), getattr(index, 'repeat', 0)) for index in sampler] == expected


def test_without_an_assignment_one_cluster_holds_everything():
    dataset, assignment = even()
    fresh = ClusterPKSampler(dataset, 12, 3, seed=1)
    plain = PKSampler(dataset, 12, 3, preset='independent', seed=1)
    assert (batches_of(fresh, 2) == batches_of(plain, 2)).all()
    assert fresh.cluster_of_step(2, 0) == 0
    assert fresh.num_clusters == 1 and (fresh.assignment == 0).all()


@pytest.mark.parametrize('cluster_order', ORDERS)
def test_length_is_floor_n_over_global_batch_whatever_the_clusters_are(cluster_order):
    dataset, assignment = with_clusters([5, 5, 5], [4] * 4, [2], [3, 3], left_out=3)  # 42 images
    for world_size, batches in ((1, 5), (2, 2)):
        options = dict(cluster_order=cluster_order, rank=0, world_size=world_size)
        sampler = sampler_of(dataset, assignment, 4, 8, 4, **options)
        assert len(sampler) == batches * 8 == len(list(sampler))
        sampler.set_assignment(np.zeros(42, dtype=int), 1)
        assert len(sampler) == batches * 8 == len(list(sampler))


def test_left_out_images_are_never_drawn():
    dataset, assignment = with_clusters([4] * 5, [4] * 5, left_out=9)
    sampler = sampler_of(dataset, assignment, 2, 8, 4)
    drawn = {int(index) for epoch in range(10) for index in batches_of(sampler, epoch).ravel()}
    assert drawn == set(np.flatnonzero(assignment >= 0))


def test_small_class_gives_what_it_has_and_other_classes_fill():
    dataset, assignment = with_clusters([4, 4, 2, 1], [8] * 4)
    sampler = sampler_of(dataset, assignment, 2, 11, 4)  # cluster 0 offers exactly 4 + 4 + 2 + 1
    seen = 0
    for epoch in range(5):
        for batch in batches_of(sampler, epoch):
            if assignment[batch[0]] == 0:
                assert Counter(dataset.labels[batch]) == {0: 4, 1: 4, 2: 2, 3: 1}
                assert len(set(batch)) == 11
                seen += 1
    assert seen > 0


@pytest.mark.parametrize(
    'sizes, expected',
    [
        ([30], [12]),  # one class
        ([30, 30], [6, 6]),  # fewer than P classes
        ([30, 30, 30, 30, 30], [2, 2, 2, 3, 3]),  # the remainder goes to random classes
        ([1, 2, 30, 30], [1, 2, 4, 5]),  # what small classes cannot give goes to the larger ones
        ([1] * 9 + [30], [1] * 9 + [3]),  # many classes of one image
        ([4, 8], [4, 8]),  # exactly the batch
    ],
)
def test_cluster_short_of_classes_takes_more_images_per_class(sizes, expected):
    dataset, assignment = with_clusters(sizes, [6] * 6)
    sampler = sampler_of(dataset, assignment, 2, 12, 2 if len(sizes) < 9 else 3)
    seen = 0
    for epoch in range(8):
        for batch in batches_of(sampler, epoch):
            if assignment[batch[0]] == 0:
                assert sorted(Counter(dataset.labels[batch]).values()) == expected
                assert len(set(batch)) == 12
                assert len(np.flatnonzero(np.diff(dataset.labels[batch]))) == len(sizes) - 1  # side by side
                seen += 1
    assert seen > 0


@pytest.mark.parametrize('sizes', [[1], [2, 3], [1, 1, 5], [4, 7]])
def test_cluster_with_fewer_images_than_a_batch_repeats_all_of_them_evenly(sizes):
    dataset, assignment = with_clusters(sizes, [6] * 6)
    sampler = sampler_of(dataset, assignment, 2, 12, 3)
    members = set(np.flatnonzero(assignment == 0))
    seen = 0
    for epoch in range(8):
        for batch in batches_of(sampler, epoch):
            if assignment[batch[0]] == 0:
                counts = Counter(batch)
                assert set(counts) == members
                assert set(counts.values()) <= {12 // len(members), -(-12 // len(members))}
                seen += 1
    assert seen > 0


def test_repeats_in_a_small_cluster_ask_for_other_augmentations():
    dataset, assignment = with_clusters([2, 3], [6] * 6)
    seen = Counter()
    for index in sampler_of(dataset, assignment, 2, 12, 3):
        assert getattr(index, 'repeat', 0) == seen[int(index)]
        assert type(index) is (Draw if seen[int(index)] else int)
        seen[int(index)] += 1
    assert max(seen[image] for image in np.flatnonzero(assignment == 0)) >= 3


def dealt(sizes, places):
    """Images per class when places are dealt to the classes in turn, skipping those with no image left."""
    counts = [0] * len(sizes)
    while places:
        for label, size in enumerate(sizes):
            if places and counts[label] < size:
                counts[label] += 1
                places -= 1
    return counts


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    batch_size=st.integers(1, 40),
    seed=st.integers(0, 5),
)
def test_small_cluster_order_shares_a_batch_as_dealing_in_turn_does(sizes, batch_size, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    order = small_cluster_order(ClassTable.from_labels(labels), 3, batch_size, np.random.default_rng(seed))
    copies, rest = divmod(batch_size, len(labels))
    shares = dealt(sizes, rest)
    assert order.shape == (3, batch_size)
    for batch in order:
        counts = np.bincount(batch, minlength=len(labels))
        assert set(counts) <= {copies, copies + 1}
        extra = np.bincount(labels, weights=counts - copies, minlength=len(sizes))
        assert sorted(extra) == sorted(shares)
        assert (extra <= sizes).all()
        assert len(np.flatnonzero(np.diff(labels[batch]))) + 1 == len(set(labels[batch]))


def test_small_cluster_order_treats_images_and_larger_classes_alike():
    labels = np.repeat([0, 1, 2, 3], [2, 9, 9, 9])
    order = small_cluster_order(ClassTable.from_labels(labels), 6000, 13, np.random.default_rng(0))
    spread = 5 * np.sqrt(0.25 / 6000)  # five standard errors of a frequency, at most
    drawn = np.bincount(order.ravel(), minlength=29) / 6000
    assert (drawn[:2] == 1).all()
    assert np.abs(drawn[2:] - 11 / 27).max() < spread
    per_class = np.array([(labels[order] == label).sum(1) for label in (1, 2, 3)])
    assert np.abs((per_class == 4).mean(1) - 2 / 3).max() < spread
    first = np.bincount(labels[order[:, 0]]) / 6000
    assert np.abs(first - 1 / 4).max() < spread


@settings(max_examples=60, deadline=None)
@given(
    clusters=st.lists(st.lists(st.integers(1, 9), min_size=0, max_size=9), min_size=1, max_size=5),
    left_out=st.integers(0, 4),
    batch_size=st.integers(1, 10),
    images_per_class=st.integers(1, 4),
    cluster_order=st.sampled_from(ORDERS),
    seed=st.integers(0, 3),
)
def test_every_batch_is_pure_full_and_as_distinct_as_its_cluster_allows(
    clusters, left_out, batch_size, images_per_class, cluster_order, seed
):
    dataset, assignment = with_clusters(*clusters, [5] * 10, left_out=left_out, shuffle=seed)
    num_clusters = len(clusters) + 1
    sampler = sampler_of(
        dataset, assignment, num_clusters, batch_size, images_per_class, cluster_order=cluster_order, seed=seed
    )
    order = batches_of(sampler, 1)
    assert len(order) == len(dataset) // batch_size
    for step, batch in enumerate(order):
        (cluster,) = set(assignment[batch])
        assert cluster == sampler.cluster_of_step(1, step)
        members = np.flatnonzero(assignment == cluster)
        assert len(set(batch)) == min(batch_size, len(members))
        sizes = np.bincount(dataset.labels[members])
        counts = Counter(dataset.labels[batch])
        if np.minimum(sizes, images_per_class).sum() >= batch_size:
            *whole, last = dict.fromkeys(dataset.labels[batch])
            assert all(counts[label] == min(images_per_class, sizes[label]) for label in whole)
            assert counts[last] <= min(images_per_class, sizes[last])
        else:
            assert set(counts) == set(np.flatnonzero(sizes)) or len(counts) == batch_size


def test_uniform_order_draws_every_non_empty_cluster_alike():
    dataset, _ = even(classes=30)
    assignment = np.where(np.arange(len(dataset)) < 500, 1, np.where(np.arange(len(dataset)) < 590, 3, 4))
    sampler = sampler_of(dataset, assignment, 6, 4, 2)
    steps = np.array([sampler.cluster_of_step(epoch, step) for epoch in range(20) for step in range(150)])
    frequency = np.bincount(steps, minlength=6) / len(steps)
    assert (frequency[[0, 2, 5]] == 0).all()
    assert np.abs(frequency[[1, 3, 4]] - 1 / 3).max() < 5 * np.sqrt(2 / 9 / len(steps))


def test_proportional_order_draws_clusters_by_their_images():
    dataset, _ = even(classes=30)
    assignment = np.where(np.arange(600) < 300, 2, np.where(np.arange(600) < 400, 0, -1))
    sampler = sampler_of(dataset, assignment, 3, 4, 2, cluster_order='proportional')
    steps = np.array([sampler.cluster_of_step(epoch, step) for epoch in range(20) for step in range(150)])
    frequency = np.bincount(steps, minlength=3) / len(steps)
    assert np.abs(frequency - [1 / 4, 0, 3 / 4]).max() < 5 * np.sqrt(3 / 16 / len(steps))


def test_round_robin_goes_through_the_non_empty_clusters_across_epochs():
    dataset, assignment = with_clusters([5] * 4, [], [5] * 4, [5] * 3)  # 55 images: 5 steps of 11
    sampler = sampler_of(dataset, assignment, 4, 11, 3, cluster_order='round_robin')
    steps = [sampler.cluster_of_step(epoch, step) for epoch in range(3) for step in range(5)]
    assert steps == [0, 2, 3] * 5


@pytest.mark.parametrize('cluster_order', ['uniform', 'proportional'])
def test_cluster_of_a_step_depends_on_seed_epoch_and_step_alone(cluster_order):
    dataset, assignment = even(classes=12)

    def steps(seed, epoch):
        sampler = sampler_of(dataset, assignment, 4, 6, 3, cluster_order=cluster_order, seed=seed)
        return [sampler.cluster_of_step(epoch, step) for step in range(40)]

    assert steps(1, 2) == steps(1, 2)
    assert steps(1, 2) != steps(1, 3)
    assert steps(1, 2) != steps(2, 2)
    longer = sampler_of(dataset, assignment, 4, 4, 2, cluster_order=cluster_order, seed=1)  # 60 steps, not 40
    assert [longer.cluster_of_step(2, step) for step in range(40)] == steps(1, 2)


@pytest.mark.parametrize('step', [-1, 10])
def test_cluster_of_a_step_beyond_the_epoch_is_an_error(step):
    dataset, assignment = even()
    with pytest.raises(ValueError, match=rf'step must be in 0\.\.9 .*, got {step}'):
        sampler_of(dataset, assignment, 4, 12, 3).cluster_of_step(0, step)


def test_order_depends_on_seed_and_epoch_alone():
    dataset, assignment = even()
    sampler = sampler_of(dataset, assignment, 4, 12, 3, seed=4)
    late, first = batches_of(sampler, 3), batches_of(sampler, 0)
    assert (batches_of(sampler_of(dataset, assignment, 4, 12, 3, seed=4), 3) == late).all()
    assert (late != first).any()
    assert (batches_of(sampler_of(dataset, assignment, 4, 12, 3, seed=5)) != first).any()


@pytest.mark.parametrize('cluster_order', ORDERS)
@pytest.mark.parametrize('world_size', [2, 3])
def test_ranks_are_disjoint_slices_of_one_cluster_s_batch(world_size, cluster_order):
    dataset, assignment = with_clusters([5] * 8, [9, 9, 4], [6] * 7)
    options = dict(cluster_order=cluster_order)
    whole = sampler_of(dataset, assignment, 3, 18, 3, **options)
    parts = [
        sampler_of(dataset, assignment, 3, 18 // world_size, 3, rank=rank, world_size=world_size, **options)
        for rank in range(world_size)
    ]
    assert {len(part) for part in parts} == {len(whole) // world_size}
    for epoch in range(3):
        slices = [batches_of(part, epoch) for part in parts]
        assert (np.concatenate(slices, axis=1) == batches_of(whole, epoch)).all()
        for step, batch in enumerate(np.concatenate(slices, axis=1)):
            assert len(set(batch)) == 18
            assert set(assignment[batch]) == {part.cluster_of_step(epoch, step) for part in parts}


def test_unreached_is_the_share_that_the_current_epoch_does_not_draw():
    dataset, assignment = with_clusters([5] * 6, [5] * 3, left_out=5)  # 50 images
    sampler = sampler_of(dataset, assignment, 2, 9, 3)
    for epoch in range(3):
        drawn = set(batches_of(sampler, epoch).ravel())
        assert sampler.unreached() == pytest.approx(1 - len(drawn) / 50)


def test_unreached_is_zero_when_everything_is_drawn():
    dataset, assignment = with_clusters([3] * 4)
    assert sampler_of(dataset, assignment, 1, 12, 3).unreached() == 0


def test_new_assignment_counts_from_the_next_iteration_and_is_copied():
    dataset, assignment = even()
    sampler = sampler_of(dataset, assignment, 4, 12, 3)
    before = batches_of(sampler)
    running = iter(sampler)
    turned = (assignment + 1) % 4
    sampler.set_assignment(turned, 4)
    assert [int(index) for index in running] == before.ravel().tolist()
    after = batches_of(sampler)
    assert all(len(set(turned[batch])) == 1 for batch in after)
    turned[:] = -1
    assert (batches_of(sampler) == after).all()
    assert (sampler.assignment == (assignment + 1) % 4).all()


def test_assignment_may_be_a_tensor():
    dataset, assignment = even()
    by_array = sampler_of(dataset, assignment, 4, 12, 3)
    by_tensor = sampler_of(dataset, torch.from_numpy(assignment), 4, 12, 3)
    assert (batches_of(by_array) == batches_of(by_tensor)).all()


@pytest.mark.parametrize(
    'assignment, num_clusters, message',
    [
        (np.full(12, -1), 2, r'leaves out every image \(all are -1\)'),
        (np.zeros(11, dtype=int), 2, r'each of the 12 images, got shape \(11,\)'),
        (np.zeros((12, 1), dtype=int), 2, r'each of the 12 images, got shape \(12, 1\)'),
        (np.zeros(12), 2, r'one integer .* of float64'),
        (np.arange(12), 4, r'must be in -1\.\.3 .*, got 0\.\.11'),
        (np.arange(12) - 2, 12, r'must be in -1\.\.11 .*, got -2\.\.9'),
        (np.zeros(12, dtype=int), 0, 'num_clusters must be at least 1, got 0'),
    ],
)
def test_bad_assignment_is_named_and_changes_nothing(assignment, num_clusters, message):
    sampler = ClusterPKSampler(Labeled(np.arange(12) // 4), 8, 4, seed=0)
    before = batches_of(sampler)
    with pytest.raises(ValueError, match=message):
        sampler.set_assignment(assignment, num_clusters)
    assert (batches_of(sampler) == before).all()


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(cluster_order='random'), r"one of \['proportional', 'round_robin', 'uniform'\], got 'random'"),
        (dict(batch_size=13), 'batch of 13 images .* offer 12'),
        (dict(images_per_class=5), 'images_per_class=5 is larger than every class'),
        (dict(rank=2, world_size=2), r'rank must be in 0\.\.1'),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ClusterPKSampler(Labeled(np.arange(12) // 4), **{'batch_size': 4, 'images_per_class': 4, 'seed': 0, **options})


def test_run_state_survives_weights_only_loading_and_restores_the_order():
    dataset, assignment = even()
    first = ClusterPKSampler(dataset, 12, 3)
    first.set_assignment(assignment, 4)
    file = io.BytesIO()
    torch.save(first.run_state(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert state['assignment'].dtype == torch.int64 and type(state['num_clusters']) is int
    second = ClusterPKSampler(dataset, 12, 3)
    second.load_run_state(state)
    assert second.num_clusters == 4
    assert (batches_of(first, 1) == batches_of(second, 1)).all()


def test_run_state_is_a_snapshot():
    dataset, assignment = even()
    sampler = sampler_of(dataset, assignment, 4, 12, 3)
    sampler.run_state()['assignment'].fill_(-1)
    assert (sampler.assignment == assignment).all()


def test_state_of_another_data_set_is_an_error():
    state = sampler_of(*even(), 4, 12, 3).run_state()
    with pytest.raises(ValueError, match=r'each of the 30 images, got shape \(120,\)'):
        sampler_of(*even(num_clusters=1), 1, 12, 3).load_run_state(state)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_run_resumed_inside_an_epoch_continues_the_uninterrupted_order(monkeypatch, num_workers):
    monkeypatch.setattr(loops.time, 'sleep', lambda seconds: None)  # MMEngine waits 2 s at every wrap-around
    dataset, assignment = with_clusters([5] * 4, [2, 3], [5] * 3)  # 40 images: 6 steps an epoch

    def loader_of(sampler):
        return DataLoader(dataset, batch_size=6, sampler=sampler, num_workers=num_workers)

    first = sampler_of(dataset, assignment, 3, 6, 3, seed=5)
    running = loops._InfiniteDataloaderIterator(loader_of(first))
    uninterrupted = [next(running) for _ in range(20)]
    resumed = ClusterPKSampler(dataset, 6, 3, seed=0)
    resumed.load_run_state(first.run_state())
    iterator = loops._InfiniteDataloaderIterator(loader_of(resumed))
    iterator.skip_iter(9)
    for indices, repeats in uninterrupted[9:]:
        again = next(iterator)
        assert again[0].tolist() == indices.tolist()
        assert again[1].tolist() == repeats.tolist()


def test_registry_builds_it_with_mmengine_default_arguments():
    dataset, _ = even()
    config = dict(type='ClusterPKSampler', batch_size=12, images_per_class=3, cluster_order='round_robin')
    sampler = DATA_SAMPLERS.build(config, default_args=dict(dataset=dataset, seed=3))
    assert isinstance(sampler, ClusterPKSampler) and sampler.seed == 3
