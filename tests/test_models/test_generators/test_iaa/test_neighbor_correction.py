"""Neighbor correction: golden example and invariants."""

import math

import pytest
import torch

from mmdml.models.generators import (
    class_statistics,
    correct_variance,
    correction_weight,
    neighbor_weights,
    pooled_variance,
)

GOLDEN_COUNT = torch.tensor([2, 3, 1, 4, 2])
GOLDEN_MEAN = torch.tensor([[2.0, 1], [2, 2], [0, 4], [0, 3], [4, 0]])
GOLDEN_VAR = torch.tensor([[1, 1], [0, 2 / 3], [0, 0], [0.5, 1.5], [1, 1]])


def random_classes(num_classes=40, dim=8, dtype=torch.float64, seed=0, smallest=1, largest=60):
    random = torch.Generator().manual_seed(seed)
    count = torch.randint(smallest, largest + 1, (num_classes,), generator=random)
    mean = torch.randn(num_classes, dim, generator=random, dtype=torch.float64)
    var = torch.rand(num_classes, dim, generator=random, dtype=torch.float64) + 0.1
    var[count < 2] = 0
    return count, mean.to(dtype), var.to(dtype)


def direct_reference(
    count, mean, var, num_neighbors=25, beta=0.1, gamma=0.1, tau=40, sigma_mean=1.0, sigma_cov=1.0, squared_mean=True
):
    """Eq. 9-16 class by class in float64, distances from differences."""
    mean, var = mean.double(), var.double()
    position = mean**2 if squared_mean else mean
    known = [i for i in range(len(count)) if count[i] >= 2]
    pooled = sum(count[i] * var[i] for i in known) / sum(count[i] for i in known)
    corrected, neighborhoods = var.clone(), {}
    for k, n in enumerate(count.tolist()):
        if n == 0:
            corrected[k] = pooled
        if n == 0 or n > tau:
            continue
        eligible = [i for i in known if i != k]
        d_m = {i: math.sqrt(((position[k] - position[i]) ** 2).sum()) for i in eligible}
        d_cv = {i: math.sqrt(((var[k] - var[i]) ** 2).sum()) for i in eligible}
        chosen = sorted(eligible, key=lambda i: (d_m[i], i))[:num_neighbors]
        weights = {}
        for i in chosen:
            exponent = 0.0
            for distances, sigma in ((d_m, sigma_mean), (d_cv, sigma_cov)):
                low, high = min(distances.values()), max(distances.values())
                relative = (distances[i] - low) / (high - low) if high > low else 0.0
                if distances is d_m or n >= 2:
                    exponent += relative**2 / (2 * sigma**2)
            weights[i] = count[i].item() * math.exp(-exponent)
        total = sum(weights.values())
        neighborhoods[k] = {i: weight / total for i, weight in weights.items()}
        near = sum(weight * var[i] for i, weight in neighborhoods[k].items()) if chosen else pooled
        alpha = 1 / (1 + math.log(1 + beta * (n - 1)))
        corrected[k] = (1 - alpha) * var[k] + alpha * ((1 - gamma) * near + gamma * pooled)
    return corrected, neighborhoods


# ---------------------------------------------------------------------------------------------------- golden example


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_golden_corrected_variance(dtype):
    expected = [
        (0.377481, 1.135514),
        (0.519604, 1.244031),
        (0.318853, 1.149603),
        (0.516418, 0.996567),
        (0.568011, 0.878137),
    ]
    corrected = correct_variance(GOLDEN_COUNT, GOLDEN_MEAN.to(dtype), GOLDEN_VAR.to(dtype), num_neighbors=2)
    torch.testing.assert_close(corrected, torch.tensor(expected, dtype=dtype), rtol=0, atol=1e-6)


def test_golden_neighbors_weights_and_their_variance():
    indices, weights = neighbor_weights(GOLDEN_COUNT, GOLDEN_MEAN.double(), GOLDEN_VAR.double(), num_neighbors=2)
    assert indices.tolist() == [[1, 3], [0, 3], [3, 1], [1, 0], [0, 1]]
    raw = [(1.819592, 2.573285), (1.213061, 3.758801), (4, 2.810257), (1.819592, 1.955321), (2, 1.811194)]
    raw = torch.tensor(raw, dtype=torch.float64)
    torch.testing.assert_close(weights, raw / raw.sum(1, keepdim=True), rtol=0, atol=1e-6)
    near = [
        (0.292893, 1.154821),
        (0.621993, 1.378007),
        (0.293675, 1.156124),
        (0.517978, 0.839326),
        (0.524770, 0.841590),
    ]
    averaged = (weights[..., None] * GOLDEN_VAR.double()[indices]).sum(1)
    torch.testing.assert_close(averaged, torch.tensor(near, dtype=torch.float64), rtol=0, atol=1e-6)


def test_golden_pooled_variance_leaves_out_the_single_image_class():
    pooled = pooled_variance(GOLDEN_COUNT, GOLDEN_VAR)
    torch.testing.assert_close(pooled, torch.tensor([0.545455, 1.090909]), rtol=0, atol=1e-6)


def test_golden_alpha():
    expected = {1: 1, 2: 0.912983, 3: 0.845794, 4: 0.792164, 5: 0.748239, 8: 0.653327, 10: 0.609068, 20: 0.484329}
    expected |= {40: 0.386214, 41: 0}
    alpha = correction_weight(torch.tensor(list(expected)))
    torch.testing.assert_close(alpha, torch.tensor(list(expected.values())).double(), rtol=0, atol=1e-6)


# -------------------------------------------------------------------------------------------------------- reference


@pytest.mark.parametrize('dtype, rtol', [(torch.float32, 2e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize('options', [{}, dict(num_neighbors=3, gamma=0.4, sigma_mean=0.3, sigma_cov=0.5, beta=1.0)])
@pytest.mark.parametrize('squared_mean', [True, False])
def test_equals_a_direct_float64_reference(dtype, rtol, options, squared_mean):
    classes = random_classes(num_classes=60, dtype=dtype)
    expected, _ = direct_reference(*classes, squared_mean=squared_mean, **options)
    corrected = correct_variance(*classes, squared_mean=squared_mean, **options)
    assert corrected.dtype == dtype
    torch.testing.assert_close(corrected.double(), expected, rtol=rtol, atol=0)


def crowded_classes():
    """Groups of nearly equal classes, far from the origin: a matrix product cannot tell them apart."""
    count, mean, var = random_classes(num_classes=40, smallest=2, seed=3, largest=39)
    # Neighbors by mean are far apart in variance, so that a wrong smallest variance distance shows in their weights.
    mean, var = mean[:4].repeat(10, 1) * 3 + 20, var[:4].repeat_interleave(10, 0)
    random = torch.Generator().manual_seed(4)
    mean = mean + 3e-4 * torch.rand(mean.shape, generator=random, dtype=torch.float64)
    var = var + 3e-4 * torch.rand(var.shape, generator=random, dtype=torch.float64)
    return count, mean.float(), var.float()


def test_near_equal_classes_keep_their_true_neighbors_and_weights_in_float32():
    count, mean, var = crowded_classes()
    squared = mean.square()  # as float32 sees it; the reference starts from the same numbers
    expected, neighborhoods = direct_reference(count, squared, var, num_neighbors=4, squared_mean=False)
    indices, weights = neighbor_weights(count, mean, var, num_neighbors=4)
    for k, (row, weight) in enumerate(zip(indices.tolist(), weights.tolist(), strict=True)):
        assert row == list(neighborhoods[k])
        assert weight == pytest.approx(list(neighborhoods[k].values()), rel=1e-5)
    corrected = correct_variance(count, mean, var, num_neighbors=4)
    torch.testing.assert_close(corrected.double(), expected, rtol=1e-5, atol=0)


def test_equal_classes_are_taken_by_lower_index():
    count = torch.full((50,), 3)
    indices, _ = neighbor_weights(count, torch.full((50, 4), 0.7), torch.ones(50, 4), num_neighbors=3)
    for k, row in enumerate(indices.tolist()):
        assert row == [i for i in range(4) if i != k][:3]


@pytest.mark.parametrize('dim', [4, 30])
def test_equal_distances_are_taken_by_lower_index(dim):
    mean = torch.cat([torch.zeros(1, dim), torch.eye(dim), -torch.eye(dim)])
    count = torch.full((2 * dim + 1,), 3)
    order = torch.randperm(2 * dim, generator=torch.Generator().manual_seed(0)) + 1
    mean[1:] = mean[order]
    indices, _ = neighbor_weights(count, mean, torch.ones_like(mean), num_neighbors=5, squared_mean=False)
    assert indices[0].tolist() == [1, 2, 3, 4, 5]


# ------------------------------------------------------------------------------------------------------- invariants


def test_sign_flips_of_dimensions_leave_the_correction_unchanged():
    count, mean, var = random_classes()
    flips = torch.tensor([1, -1, 1, 1, -1, -1, 1, -1])
    assert torch.equal(correct_variance(count, mean * flips, var), correct_variance(count, mean, var))


def test_plain_mean_distance_tells_a_class_from_its_mirror_image():
    mean = torch.tensor([[1.0, 1], [-1, -1], [1.1, 1.1]])
    count, var = torch.tensor([2, 2, 2]), torch.ones(3, 2)
    assert neighbor_weights(count, mean, var, 1)[0][0].item() == 1
    assert neighbor_weights(count, mean, var, 1, squared_mean=False)[0][0].item() == 2


def test_alpha_is_one_for_one_image_whatever_beta():
    for beta in (0.0, 0.1, 3.0):
        assert correction_weight(torch.tensor([1]), beta).item() == 1


def test_alpha_falls_strictly_up_to_tau_and_is_zero_beyond():
    alpha = correction_weight(torch.arange(1, 60), tau=40)
    assert (alpha[:40].diff() < 0).all()
    assert (alpha[40:] == 0).all() and alpha[39] > 0


def test_alpha_falls_with_beta():
    alphas = torch.stack([correction_weight(torch.arange(2, 41), beta) for beta in (0.0, 0.05, 0.1, 0.5, 2.0)])
    assert (alphas.diff(dim=0) < 0).all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_classes_above_tau_keep_their_variance_bitwise(dtype):
    count, mean, var = random_classes(dtype=dtype)
    corrected = correct_variance(count, mean, var, tau=20)
    assert torch.equal(corrected[count > 20], var[count > 20])
    assert not torch.isclose(corrected[count <= 20], var[count <= 20]).all(1).any()


def test_single_image_class_is_independent_of_its_own_variance():
    count, mean, var = random_classes()
    lone = 6
    count[lone], var[lone] = 1, 0
    other = var.clone()
    other[lone] = 7.0
    first, second = (correct_variance(count, mean, v)[lone] for v in (var, other))
    assert torch.equal(first, second)
    indices, weights = neighbor_weights(count, mean, var, rows=torch.tensor([lone]))
    near = (weights[0, :, None] * var[indices[0]]).sum(0)
    torch.testing.assert_close(first, 0.9 * near + 0.1 * pooled_variance(count, var))


def test_corrected_variance_lies_in_the_hull_of_its_parts():
    count, mean, var = random_classes(seed=5)
    indices, weights = neighbor_weights(count, mean, var, 5)
    corrected = correct_variance(count, mean, var, 5)
    near = (weights[..., None] * var[indices]).sum(1)
    assert (near >= var[indices].amin(1) - 1e-12).all() and (near <= var[indices].amax(1) + 1e-12).all()
    pooled = pooled_variance(count, var).expand(len(count), 1, -1)
    hull = torch.cat([var[:, None], var[indices], pooled], 1)
    assert (corrected >= hull.amin(1) - 1e-12).all() and (corrected <= hull.amax(1) + 1e-12).all()
    assert (corrected >= 0).all()


def test_equal_variances_stay_as_they_are():
    count, mean, var = random_classes(smallest=2)
    var = var[:1].expand_as(var)
    torch.testing.assert_close(correct_variance(count, mean, var), var)


def test_infinite_kernel_widths_leave_the_image_counts_as_weights():
    count, mean, var = random_classes()
    indices, weights = neighbor_weights(count, mean, var, 5, sigma_mean=math.inf, sigma_cov=math.inf)
    share = count[indices] / count[indices].sum(1, keepdim=True)
    torch.testing.assert_close(weights, share.double())


def test_gamma_one_uses_the_pooled_variance_only_and_gamma_zero_the_neighbors_only():
    count, mean, var = random_classes(largest=30)
    alpha = correction_weight(count)[:, None]
    indices, weights = neighbor_weights(count, mean, var)
    near = (weights[..., None] * var[indices]).sum(1)
    pooled = pooled_variance(count, var)
    torch.testing.assert_close(correct_variance(count, mean, var, gamma=1), (1 - alpha) * var + alpha * pooled)
    torch.testing.assert_close(correct_variance(count, mean, var, gamma=0), (1 - alpha) * var + alpha * near)


def test_each_kernel_factor_stays_within_its_range_and_varies():
    count, mean, var = random_classes(num_classes=30, smallest=2)
    for off in (dict(sigma_cov=math.inf), dict(sigma_mean=math.inf)):
        indices, weights = neighbor_weights(count, mean, var, 29, **off)
        factor = weights / count[indices]
        factor = factor / factor.amax(1, keepdim=True)  # the nearest class has factor 1, the farthest exp(-1/2)
        torch.testing.assert_close(factor.amin(1), torch.full((30,), math.exp(-0.5), dtype=torch.float64))
        assert (factor.std(1) > 0.01).all()


def test_scaling_the_embeddings_by_c_scales_the_result_by_c_squared():
    count, mean, var = random_classes()
    for c in (1e-3, 0.5, 40.0):
        scaled = correct_variance(count, c * mean, c**2 * var)
        torch.testing.assert_close(scaled, c**2 * correct_variance(count, mean, var), rtol=1e-9, atol=0)


def test_no_class_neighbors_itself_and_none_with_one_image_is_a_neighbor():
    count, mean, var = random_classes(largest=4)
    indices, weights = neighbor_weights(count, mean, var, 10)
    assert (count == 1).any()
    assert indices.shape == (40, 10) and (weights > 0).all()
    assert (indices != torch.arange(40)[:, None]).all()
    assert (count[indices] >= 2).all()
    assert all(len(set(row)) == 10 for row in indices.tolist())


def test_permuting_the_classes_permutes_the_result():
    count, mean, var = random_classes()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    permuted = correct_variance(count[order], mean[order], var[order])
    torch.testing.assert_close(permuted, correct_variance(count, mean, var)[order])


@pytest.mark.parametrize('block_size', [1, 7, 40, 5000])
def test_block_size_does_not_change_the_result(block_size):
    classes = random_classes(dtype=torch.float32)
    torch.testing.assert_close(correct_variance(*classes, block_size=block_size), correct_variance(*classes))


# ------------------------------------------------------------------------------------------------------- edge cases


@pytest.mark.parametrize('num_known', [2, 5, 24, 25, 26])
def test_fewer_eligible_classes_than_neighbors_are_all_used(num_known):
    count, mean, var = random_classes(num_classes=num_known + 3, smallest=2, largest=30)
    count[-3:], var[-3:] = 1, 0
    indices, weights = neighbor_weights(count, mean, var, 25)
    used = (weights > 0).sum(1)
    assert used[:-3].tolist() == [min(25, num_known - 1)] * num_known
    assert used[-3:].tolist() == [min(25, num_known)] * 3
    torch.testing.assert_close(weights.sum(1), torch.ones(num_known + 3, dtype=torch.float64))
    expected, _ = direct_reference(count, mean, var)
    torch.testing.assert_close(correct_variance(count, mean, var), expected)


def test_one_eligible_class_is_the_only_neighbor_and_has_none_itself():
    count, mean, var = torch.tensor([1, 4, 1]), torch.eye(3), torch.tensor([[0.0] * 3, [1.0, 2, 3], [0.0] * 3])
    corrected = correct_variance(count, mean, var)
    torch.testing.assert_close(corrected, var[1].expand(3, 3))
    assert neighbor_weights(count, mean, var)[1].tolist() == [[1], [0], [1]]


def test_without_any_class_of_two_images_the_variance_comes_back_unchanged():
    count, mean, var = torch.tensor([1, 1, 0]), torch.eye(3), torch.zeros(3, 3)
    assert torch.equal(correct_variance(count, mean, var), var)
    assert neighbor_weights(count, mean, var)[0].shape == (3, 0)


def test_class_without_images_gets_the_pooled_variance():
    count, mean, var = random_classes()
    count[4], mean[4], var[4] = 0, 0, 0
    corrected = correct_variance(count, mean, var)
    torch.testing.assert_close(corrected[4], pooled_variance(count, var))
    assert neighbor_weights(count, mean, var)[1][4].sum() == 0
    assert corrected.isfinite().all()


def test_narrow_kernels_do_not_underflow():
    count, mean, var = random_classes()
    corrected = correct_variance(count, mean, var, sigma_mean=1e-4, sigma_cov=1e-4)
    assert corrected.isfinite().all()


def test_half_precision_statistics_are_handled_in_float32():
    count, mean, var = random_classes(dtype=torch.float16)
    corrected = correct_variance(count, mean, var)
    assert corrected.dtype == torch.float32
    torch.testing.assert_close(corrected, correct_variance(count, mean.float(), var.float()))


def test_correction_brings_few_image_estimates_closer_to_a_truth_that_depends_on_the_mean():
    random = torch.Generator().manual_seed(0)
    num_classes, dim = 300, 16
    place = torch.rand(num_classes, 1, generator=random)
    truth = (0.2 + 2 * place) * torch.linspace(0.5, 1.5, dim)
    center = 3 * place + 0.05 * torch.randn(num_classes, dim, generator=random)
    labels = torch.arange(num_classes).repeat_interleave(torch.randint(2, 5, (num_classes,), generator=random))
    noise = torch.randn(len(labels), dim, generator=random)
    count, mean, var = class_statistics(center[labels] + truth[labels].sqrt() * noise, labels, num_classes)
    error = {
        'raw': (var - truth).square().mean(),
        'corrected': (correct_variance(count, mean, var) - truth).square().mean(),
        'pooled': (pooled_variance(count, var) - truth).square().mean(),
    }
    assert error['corrected'] < 0.6 * error['raw']
    assert error['corrected'] < 0.9 * error['pooled']


def test_correction_is_no_worse_than_the_pooled_variance_where_the_mean_tells_nothing():
    random = torch.Generator().manual_seed(0)
    num_classes, dim = 300, 16
    truth = torch.linspace(0.5, 1.5, dim).expand(num_classes, dim)
    labels = torch.arange(num_classes).repeat_interleave(torch.randint(2, 5, (num_classes,), generator=random))
    center = 3 * torch.randn(num_classes, dim, generator=random)
    noise = torch.randn(len(labels), dim, generator=random)
    count, mean, var = class_statistics(center[labels] + truth[labels].sqrt() * noise, labels, num_classes)
    error = (correct_variance(count, mean, var) - truth).square().mean()
    pooled_error = (pooled_variance(count, var) - truth).square().mean()
    # What own and neighbors' estimates add by chance: a relative variance of 2 / n each, by their shares.
    alpha = correction_weight(count)
    indices, weights = neighbor_weights(count, mean, var)
    own = (1 - alpha).square() * 2 / count
    near = (0.9 * alpha).square() * (weights.square() * 2 / count[indices]).sum(1)
    assert error < pooled_error + (own + near).mean() * truth.square().mean()
    assert error < (var - truth).square().mean()


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(num_neighbors=0), 'num_neighbors must be at least 1, got 0'),
        (dict(block_size=0), 'block_size must be at least 1, got 0'),
        (dict(gamma=1.5), r'gamma must be in \[0, 1\], got 1.5'),
        (dict(beta=-0.1), 'beta must not be negative, got -0.1'),
        (dict(sigma_mean=0), 'sigma_mean must be positive, got 0'),
        (dict(sigma_cov=-1), 'sigma_cov must be positive, got -1'),
    ],
)
def test_settings_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        correct_variance(*random_classes(), **options)


def test_shapes_that_do_not_fit_are_named():
    count, mean, var = random_classes()
    with pytest.raises(ValueError, match=r'got \(39,\), \(40, 8\) and \(40, 8\)'):
        correct_variance(count[1:], mean, var)
