"""Partition of the embedding: identities of slices."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from mmdml.structures.partition import Partition


def raw(rows=6, dim=10, seed=0, dtype=torch.float64):
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize('dim', [1, 2, 7, 10, 128])
def test_slices_are_disjoint_cover_everything_and_differ_by_at_most_one(dim):
    for num_parts in range(1, min(dim, 40) + 1):
        partition = Partition(dim, num_parts)
        neurons = [neuron for part in partition.slices for neuron in range(dim)[part]]
        assert neurons == list(range(dim))
        assert len(partition) == len(partition.slices) == num_parts and partition.dim == dim
        assert [part.stop - part.start for part in partition.slices] == list(partition.sizes)
        assert min(partition.sizes) >= 1 and max(partition.sizes) - min(partition.sizes) <= 1


def test_the_longer_slices_come_first():
    assert Partition(10, 6).sizes == (2, 2, 2, 2, 1, 1)
    assert Partition(128, 8).sizes == (16,) * 8


@pytest.mark.parametrize('num_parts', [-1, 0, 11])
def test_a_learner_without_neurons_is_an_error(num_parts):
    with pytest.raises(ValueError, match=rf'num_parts must be in 1\.\.10, .* got {num_parts}'):
        Partition(10, num_parts)


def test_partitions_are_equal_if_their_slices_are():
    assert Partition(10, 4) == Partition(10, 4) != Partition(10, 5)
    assert len({Partition(10, 4), Partition(10, 4), Partition(12, 4)}) == 2
    assert repr(Partition(5, 2)) == 'Partition(sizes=(3, 2))'


def test_merged_slices_join_children_2c_and_2c_plus_1():
    partition = Partition(22, 8)
    for num_groups in (1, 2, 4):
        children, parents = partition.merged(2 * num_groups), partition.merged(num_groups)
        assert len(parents) == num_groups and parents.dim == 22
        for group, part in enumerate(parents.slices):
            first, second = children.slices[2 * group : 2 * group + 2]
            assert (part.start, part.stop) == (first.start, second.stop) and first.stop == second.start
    assert partition.merged(8) == partition and partition.merged(1) == Partition(22, 1)
    assert partition.merged(4).merged(2) == partition.merged(2)


@pytest.mark.parametrize('num_groups', [0, 3, 16])
def test_groups_that_do_not_divide_the_slices_are_an_error(num_groups):
    with pytest.raises(ValueError, match=f'num_groups must divide the 8 slices, got {num_groups}'):
        Partition(16, 8).merged(num_groups)


def test_split_cuts_along_the_last_dimension_without_copying():
    z, partition = raw(), Partition(10, 4)
    parts = partition.split(z)
    assert [part.shape[1] for part in parts] == list(partition.sizes)
    for part, neurons in zip(parts, partition.slices, strict=True):
        assert torch.equal(part, z[:, neurons]) and part.data_ptr() == z[:, neurons].data_ptr()
    assert torch.equal(torch.cat(partition.split(z[0])), z[0])


def test_split_of_another_width_is_an_error():
    with pytest.raises(ValueError, match=r'the last dimension must be 10, got shape \(6, 9\)'):
        Partition(10, 4).split(raw(dim=9))


def test_merged_embedding_is_unit_and_its_cosine_is_the_mean_of_the_slice_cosines():
    partition, z = Partition(10, 4), raw()
    parts, merged = partition.unit_slices(z), partition.unit(z)
    assert torch.allclose(merged.norm(dim=1), torch.ones(6, dtype=z.dtype))
    assert torch.equal(merged, torch.cat(parts, 1) / math.sqrt(4))
    assert torch.allclose(merged @ merged.t(), sum(part @ part.t() for part in parts) / 4)
    squared = sum(torch.cdist(part, part, compute_mode='donot_use_mm_for_euclid_dist') ** 2 for part in parts) / 4
    assert torch.allclose(torch.cdist(merged, merged, compute_mode='donot_use_mm_for_euclid_dist') ** 2, squared)


def test_normalising_unit_slices_again_changes_nothing():
    partition, z = Partition(10, 4), raw()
    assert torch.allclose(partition.unit(torch.cat(partition.unit_slices(z), 1)), partition.unit(z))


def test_the_scale_of_one_slice_does_not_matter():
    partition, z = Partition(10, 4), raw()
    scaled = z.clone()
    scaled[:, partition.slices[1]] *= 7.5
    assert torch.allclose(partition.unit(scaled), partition.unit(z))


def test_one_slice_is_bit_equal_to_plain_normalization():
    z = raw(dtype=torch.float32)
    assert torch.equal(Partition(10, 1).unit(z), normalize(z, dim=1))


def test_the_loss_of_a_slice_has_no_gradient_outside_it():
    partition, z = Partition(10, 4), raw().requires_grad_()
    weights = raw(seed=1)[:, partition.slices[2]]
    (partition.unit_slices(z)[2] * weights).sum().backward()
    inside = torch.zeros(10, dtype=torch.bool)
    inside[partition.slices[2]] = True
    assert (z.grad[:, inside] != 0).all() and (z.grad[:, ~inside] == 0).all()


def test_a_zero_slice_stays_zero_with_a_finite_gradient():
    partition, z = Partition(10, 4), raw()
    z[0, partition.slices[0]] = 0
    z.requires_grad_()
    merged = partition.unit(z)
    merged.sum().backward()
    assert (merged[0, partition.slices[0]] == 0).all() and torch.isfinite(z.grad).all()


def test_half_rows_are_normalized_in_fp32():
    z = raw(dtype=torch.float32).half()
    assert Partition(10, 4).unit(z).dtype == torch.float32
    assert torch.equal(Partition(10, 4).unit(z), Partition(10, 4).unit(z.float()))
