"""Class statistics: golden values and invariants."""

import numpy as np
import pytest
import torch

from mmdml.models.generators import ClassStatistics, class_statistics, update_statistics

GOLDEN = [[(1, 0), (3, 2)], [(2, 1), (2, 3), (2, 2)], [(0, 4)], [(-1, 2), (1, 2), (0, 5), (0, 3)], [(3, -1), (5, 1)]]


def sample(num_images=200, num_classes=17, dim=6, dtype=torch.float32, seed=0):
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (num_images,), generator=random)
    spread = torch.rand(num_classes, 1, generator=random)[labels] + 0.5
    embeddings = torch.randn(num_classes, dim, generator=random)[labels]
    return (embeddings + spread * torch.randn(num_images, dim, generator=random)).to(dtype), labels


def per_class_loop(embeddings, labels, num_classes):
    embeddings, labels = embeddings.double().numpy(), labels.numpy()
    count, mean, var = (np.zeros((num_classes, *shape)) for shape in ((), embeddings.shape[1:], embeddings.shape[1:]))
    for label in set(labels.tolist()):
        members = embeddings[labels == label]
        count[label], mean[label], var[label] = len(members), members.mean(0), members.var(0)
    return count, mean, var


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_equals_a_loop_over_classes_in_float64(dtype):
    embeddings, labels = sample(num_images=3000, dtype=dtype)  # more rows than one internal block
    statistics = class_statistics(embeddings, labels, 17)
    assert statistics.count.dtype == torch.int64 and statistics.mean.dtype == statistics.var.dtype == dtype
    for ours, reference in zip(statistics, per_class_loop(embeddings, labels, 17), strict=True):
        np.testing.assert_allclose(ours.numpy(), reference, rtol=1e-5, atol=1e-6)


def test_order_of_images_does_not_matter():
    embeddings, labels = sample()
    shuffle = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    for first, second in zip(
        class_statistics(embeddings, labels, 17),
        class_statistics(embeddings[shuffle], labels[shuffle], 17),
        strict=True,
    ):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=0)


def test_golden_example():
    embeddings = torch.tensor([point for points in GOLDEN for point in points], dtype=torch.float32)
    labels = torch.tensor([label for label, points in enumerate(GOLDEN) for _ in points])
    count, mean, var = class_statistics(embeddings, labels, 5)
    assert count.tolist() == [2, 3, 1, 4, 2]
    assert mean.tolist() == [[2, 1], [2, 2], [0, 4], [0, 3], [4, 0]]
    expected = torch.tensor([[1, 1], [0, 0.666667], [0, 0], [0.5, 1.5], [1, 1]])
    torch.testing.assert_close(var, expected, rtol=0, atol=1e-6)


def test_translation_leaves_the_variance_unchanged():
    embeddings, labels = sample()
    shifted = class_statistics(embeddings + 1024, labels, 17).var  # 1024 costs a float32 input ten of its 24 bits
    exact = class_statistics((embeddings + 1024).double(), labels, 17).var
    torch.testing.assert_close(shifted.double(), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        class_statistics(embeddings.double() + 1024, labels, 17).var,
        class_statistics(embeddings.double(), labels, 17).var,
    )


def test_scaling_by_c_scales_the_variance_by_c_squared():
    embeddings, labels = sample()
    var = class_statistics(embeddings, labels, 17).var
    torch.testing.assert_close(class_statistics(-3 * embeddings, labels, 17).var, 9 * var)


def test_sign_flips_of_dimensions_leave_the_variance_unchanged():
    embeddings, labels = sample()
    flips = torch.tensor([1, -1, 1, -1, -1, 1])
    assert torch.equal(
        class_statistics(embeddings * flips, labels, 17).var, class_statistics(embeddings, labels, 17).var
    )


@pytest.mark.parametrize('momentum', [None, 0.2, 1.0])
def test_repeated_sweep_of_a_frozen_network_changes_nothing(momentum):
    embeddings, labels = sample(dtype=torch.float64)
    sweep = class_statistics(embeddings, labels, 17)
    for before, after in zip(sweep, update_statistics(sweep, sweep, momentum), strict=True):
        torch.testing.assert_close(before, after)


def test_unclamped_running_update_equals_the_pooled_statistics_of_all_data():
    embeddings, labels = sample(num_images=600, dtype=torch.float64)
    parts = [class_statistics(embeddings[rows], labels[rows], 17) for rows in torch.arange(600).chunk(3)]
    running, seen = parts[0], parts[0].count
    for part in parts[1:]:
        running = update_statistics(running, part, momentum=1.0, seen=seen)
        seen = seen + part.count
    whole = class_statistics(embeddings, labels, 17)
    torch.testing.assert_close(running.mean, whole.mean)
    torch.testing.assert_close(running.var, whole.var)
    assert torch.equal(seen, whole.count)


def test_released_momentum_keeps_a_fifth_and_adds_the_drift():
    old = ClassStatistics(torch.tensor([4]), torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 3.0]]))
    new = ClassStatistics(torch.tensor([4]), torch.tensor([[6.0, 0.0]]), torch.tensor([[1.0, 4.0]]))
    count, mean, var = update_statistics(old, new, momentum=0.2)
    assert count.tolist() == [4]
    torch.testing.assert_close(mean, torch.tensor([[0.2 + 0.8 * 6, 0.0]]))
    torch.testing.assert_close(var, torch.tensor([[0.2 * 2 + 0.8 * 1 + 0.16 * 25, 0.2 * 3 + 0.8 * 4]]))


def test_first_sweep_of_a_class_is_taken_whole_by_the_running_update():
    old = ClassStatistics(torch.tensor([0, 3]), torch.zeros(2, 1), torch.zeros(2, 1))
    new = ClassStatistics(torch.tensor([2, 3]), torch.full((2, 1), 5.0), torch.ones(2, 1))
    _, mean, var = update_statistics(old, new, momentum=0.2)
    assert mean[0].item() == 5 and var[0].item() == 1


@pytest.mark.parametrize('momentum', [None, 0.2])
def test_class_absent_from_a_sweep_keeps_its_values(momentum):
    old = ClassStatistics(torch.tensor([2, 3]), torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]]))
    new = ClassStatistics(torch.tensor([0, 5]), torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [6.0]]))
    count, mean, var = update_statistics(old, new, momentum)
    assert count.tolist() == [2, 5]
    assert mean[0].item() == 1 and var[0].item() == 3
    assert var[1].item() == pytest.approx(6 if momentum is None else 0.2 * 4 + 0.8 * 6)


def test_momentum_outside_its_range_is_refused():
    sweep = class_statistics(*sample(), 17)
    with pytest.raises(ValueError, match=r'momentum must be None or in \[0, 1\], got 1.5'):
        update_statistics(sweep, sweep, 1.5)


def test_class_with_one_image_has_it_as_mean_and_variance_zero():
    embeddings = torch.tensor([[3.0, -2.0], [1.0, 1.0], [2.0, 1.0]])
    count, mean, var = class_statistics(embeddings, torch.tensor([0, 2, 2]), 3)
    assert count.tolist() == [1, 0, 2]
    assert mean[0].tolist() == [3, -2] and var[0].tolist() == [0, 0]
    assert mean[1].tolist() == [0, 0] and var[1].tolist() == [0, 0]


def test_half_precision_embeddings_give_float32_statistics():
    embeddings, labels = sample(num_images=3000, dtype=torch.float16)
    statistics = class_statistics(embeddings + 100, labels, 2000)
    exact = class_statistics((embeddings + 100).double(), labels, 2000)
    assert statistics.var.dtype == torch.float32
    torch.testing.assert_close(statistics.var, exact.var.float())


def test_no_gradient_reaches_the_statistics():
    embeddings, labels = sample()
    statistics = class_statistics(embeddings.requires_grad_(), labels, 17)
    assert not statistics.mean.requires_grad and not statistics.var.requires_grad


@pytest.mark.parametrize('broken', [float('nan'), float('inf'), -float('inf')])
def test_embeddings_that_are_not_finite_are_named_by_row(broken):
    embeddings, labels = sample()
    embeddings[[7, 90], [0, 3]] = broken
    with pytest.raises(ValueError, match=r'2 of 200 embeddings are NaN or infinite, first rows \[7, 90\]'):
        class_statistics(embeddings, labels, 17)


def test_large_finite_embeddings_are_not_taken_for_infinite():
    _, mean, _ = class_statistics(torch.full((2, 4), 60000.0, dtype=torch.float16), torch.tensor([0, 0]), 1)
    assert mean.tolist() == [[60000.0] * 4]


def test_labels_out_of_range_are_named_by_row():
    embeddings, labels = sample()
    labels[3], labels[5] = -1, 17
    with pytest.raises(ValueError, match=r'2 labels are outside 0..16: rows \[3, 5\] have \[-1, 17\]'):
        class_statistics(embeddings, labels, 17)


@pytest.mark.parametrize(
    'embeddings, labels, message',
    [
        (torch.zeros(3, 2), torch.zeros(4, dtype=torch.long), r'got \(3, 2\) and \(4,\)'),
        (torch.zeros(3), torch.zeros(3, dtype=torch.long), r'must be \(N, D\)'),
        (torch.zeros(3, 2), torch.zeros(3), 'labels must be integers, got torch.float32'),
    ],
)
def test_shapes_and_types_that_do_not_fit_are_named(embeddings, labels, message):
    with pytest.raises(ValueError, match=message):
        class_statistics(embeddings, labels, 1)
