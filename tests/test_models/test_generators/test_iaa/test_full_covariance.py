"""Full-covariance noise from a bank."""

import dataclasses
from itertools import pairwise

import pytest
import torch

from mmdml.models.generators import (
    CovarianceBank,
    class_statistics,
    correct_variance,
    correction_weight,
    full_covariance_noise,
)
from mmdml.models.generators.iaa.full_covariance import covariance_factor

SIZES = (6, 1, 3, 2, 50)
DRAWS = 60000


def sample(dim=3):
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))
    labels = labels[torch.randperm(len(labels), generator=random)]
    shear = torch.randn(len(SIZES), dim, dim, generator=random, dtype=torch.float64)
    points = torch.randn(len(labels), dim, generator=random, dtype=torch.float64)
    return torch.einsum('nij,nj->ni', shear[labels], points) + 2 * labels[:, None], labels


def covariances(embeddings, labels):
    """Eq. 8 class by class."""
    result = torch.zeros(len(SIZES), embeddings.shape[1], embeddings.shape[1], dtype=torch.float64)
    for k in range(len(SIZES)):
        members = embeddings[labels == k]
        result[k] = (members - members.mean(0)).t() @ (members - members.mean(0)) / len(members)
    return result


def draw(bank, class_ids, copies=DRAWS, seed=1):
    return full_covariance_noise(torch.tensor(class_ids), copies, bank, torch.Generator().manual_seed(seed))


def assert_covariance(draws, expected):
    """Six standard errors of an empirical covariance of normal vectors, entry by entry; the mean is known to be 0."""
    empirical = draws.t() @ draws / len(draws)
    scale = expected.diagonal()
    error = ((expected.square() + scale[:, None] * scale) / len(draws)).sqrt()
    assert ((empirical - expected).abs() <= 6 * error + 1e-12).all()


def test_bank_holds_centered_rows_class_after_class():
    embeddings, labels = sample()
    bank = CovarianceBank.build(embeddings, labels, len(SIZES))
    assert bank.offsets.diff().tolist() == list(SIZES)
    for k, (begin, end) in enumerate(pairwise(bank.offsets.tolist())):
        members = embeddings[labels == k]
        torch.testing.assert_close(bank.rows[begin:end], members - members.mean(0))


def test_uncorrected_noise_has_the_covariance_of_each_class():
    embeddings, labels = sample()
    noise = draw(CovarianceBank.build(embeddings, labels, len(SIZES)), [4, 0, 1, 0])
    expected = covariances(embeddings, labels)
    assert noise.shape == (DRAWS, 4, 3)
    for column, k in enumerate([4, 0, 1, 0]):
        assert_covariance(noise[:, column], expected[k])
    assert (noise[:, 2] == 0).all()


def test_corrected_noise_has_the_mixture_of_equation_15():
    embeddings, labels = sample()
    bank = CovarianceBank.build(embeddings, labels, len(SIZES), correction=dict(num_neighbors=2, gamma=0.3))
    single = covariances(embeddings, labels)
    count = class_statistics(embeddings, labels, len(SIZES)).count
    pooled = sum(n * single[k] for k, n in enumerate(SIZES) if n >= 2) / sum(n for n in SIZES if n >= 2)
    noise = draw(bank, list(range(len(SIZES))))
    for k, alpha in enumerate(correction_weight(count).tolist()):
        near = (bank.weights[k, :, None, None] * single[bank.indices[k]]).sum(0)
        assert_covariance(noise[:, k], (1 - alpha) * single[k] + alpha * (0.7 * near + 0.3 * pooled))


def test_class_without_neighbors_borrows_from_the_pooled_covariance():
    embeddings, labels = sample()
    only = (labels == 0) | (labels == 1)
    bank = CovarianceBank.build(embeddings[only], labels[only], 3, correction={})
    single = covariances(embeddings, labels)[0]
    noise = draw(bank, [0, 1, 2])  # the only class with two images, a single image, no image
    for column in range(3):
        assert_covariance(noise[:, column], single)


def test_diagonal_of_the_mixture_equals_the_corrected_variance():
    embeddings, labels = sample()
    options = dict(num_neighbors=2, gamma=0.3, beta=0.5, tau=10, sigma_mean=0.5, sigma_cov=0.7, squared_mean=False)
    bank = CovarianceBank.build(embeddings, labels, len(SIZES), correction=options)
    corrected = correct_variance(*class_statistics(embeddings, labels, len(SIZES)), **options)
    noise = draw(bank, list(range(len(SIZES))))
    error = corrected * (2 / DRAWS) ** 0.5
    assert ((noise.square().mean(0) - corrected).abs() <= 6 * error).all()


def test_copies_and_rows_are_independent_of_each_other():
    embeddings, labels = sample()
    bank = CovarianceBank.build(embeddings, labels, len(SIZES), correction=dict(num_neighbors=2))
    noise = torch.cat([draw(bank, [0, 0, 3], copies=2, seed=seed) for seed in range(4000)], 1)
    columns = noise.view(2, 4000, 3, 3).permute(1, 0, 2, 3).reshape(4000, 6, 3)
    columns = columns / columns.square().mean(0).sqrt()
    for i in range(6):
        for j in range(i):
            assert (columns[:, i].t() @ columns[:, j] / 4000).abs().max() < 5 / 4000**0.5


def test_same_generator_state_gives_the_same_noise():
    embeddings, labels = sample()
    bank = CovarianceBank.build(embeddings, labels, len(SIZES), correction={})
    assert torch.equal(draw(bank, [2, 0, 2], 3), draw(bank, [2, 0, 2], 3))
    assert not torch.equal(draw(bank, [2, 0, 2], 3), draw(bank, [2, 0, 2], 3, seed=2))


def test_bank_rebuilds_from_its_plain_fields_and_moves_to_a_device():
    embeddings, labels = sample()
    bank = CovarianceBank.build(embeddings.float(), labels, len(SIZES), correction={})
    copy = CovarianceBank(**dataclasses.asdict(bank)).to('cpu')
    assert torch.equal(draw(copy, [0, 1, 2], 3), draw(bank, [0, 1, 2], 3))
    assert draw(bank, [0, 1, 2], 3).dtype == torch.float32


@pytest.mark.parametrize('rank', [0, 2, 5])
def test_factor_of_a_covariance_multiplies_back_also_when_it_is_singular(rank):
    points = torch.randn(5, rank, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covariance = points @ points.t()
    factor = covariance_factor(covariance)
    torch.testing.assert_close(factor @ factor.t(), covariance)


def test_wrong_correction_settings_are_named():
    embeddings, labels = sample()
    with pytest.raises(ValueError, match=r'gamma must be in \[0, 1\], got 2'):
        CovarianceBank.build(embeddings, labels, len(SIZES), correction=dict(gamma=2))
    with pytest.raises(TypeError, match='neighbors'):
        CovarianceBank.build(embeddings, labels, len(SIZES), correction=dict(neighbors=2))
    with pytest.raises(ValueError, match='labels are outside'):
        CovarianceBank.build(embeddings, labels, 3)
