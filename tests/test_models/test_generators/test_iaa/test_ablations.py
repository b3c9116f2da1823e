"""The ablations of the IAA paper as options: Tables IX, XI and XII."""

import math

import pytest
import torch
from test_iaa_generator import START, batch, draws, embeddings_of, estimated, training_set

from mmdml.models import IAAGenerator
from mmdml.models.generators import class_statistics, pooled_variance
from mmdml.models.necks import DivideAndConquerEmbedding
from mmdml.structures import Progress, StepContext


def test_identity_noise_is_the_same_for_all_classes_and_dimensions():
    anchors = batch(training_set(), [0, 9, 20])
    noise = draws(estimated(training_set(), num_copies=3, lam=0.7, noise='identity'), anchors, 1000)
    assert (noise.var(0, correction=0) / 0.7 - 1).abs().max() < 4.5 * math.sqrt(2 / 3000)


def test_identity_noise_leaves_out_neurons_that_the_learner_does_not_see():
    neck = DivideAndConquerEmbedding(in_channels=3, embed_dim=4, num_learners=2)
    neck.divide(2)
    anchors = batch(training_set(), [0, 9])
    made = estimated(training_set(), noise='identity')(anchors, StepContext(START, neck.active(1))).embeddings
    moved = (made.reshape(3, 2, 4) != anchors.embeddings).all(0).all(0)
    assert moved.tolist() == [False, False, True, True]


def test_copies_around_the_mean_of_the_class_have_no_gradient():
    data = training_set()
    anchors = batch(data, [0, 9])
    generator = estimated(data, num_copies=2, lam=0.5, center='mean')
    plain = estimated(data, num_copies=2, lam=0.5)
    fixed, dynamic = (kind(anchors, StepContext(START)) for kind in (generator, plain))
    means = class_statistics(data.raw, data.labels, 6).mean[anchors.labels]
    noise = dynamic.embeddings.reshape(2, 2, 4) - anchors.embeddings
    torch.testing.assert_close(fixed.embeddings.reshape(2, 2, 4), means + noise)
    assert not fixed.embeddings.requires_grad and torch.equal(fixed.labels, dynamic.labels)


def test_a_class_that_the_estimate_lacks_has_its_copies_around_the_row_itself():
    data = training_set()
    seen = embeddings_of(data.raw[:40], data.labels[:40], num_classes=6)
    anchors = batch(data, [0, 47])
    fixed, plain = (
        estimated(seen, num_copies=2, center=center)(anchors, StepContext(START)).embeddings.reshape(2, 2, 4)
        for center in ('mean', 'sample')
    )
    torch.testing.assert_close(fixed[:, 1], plain[:, 1])
    assert not torch.allclose(fixed[:, 0], plain[:, 0]) and not fixed.requires_grad


def test_an_estimate_of_some_images_of_each_class():
    data = training_set(classes=3, images=8)
    shuffled = torch.randperm(24)
    data.raw, data.labels = data.raw[shuffled], data.labels[shuffled]
    generator = estimated(data, images_per_class=3)
    statistics = generator.estimator.statistics
    assert statistics['count'].tolist() == [3, 3, 3]
    chosen = generator.estimator._some(data, START)
    assert (chosen.indices.diff() > 0).all() and torch.equal(chosen.raw, data.raw[chosen.indices])
    assert torch.equal(chosen.labels, data.labels[chosen.indices])
    torch.testing.assert_close(statistics['mean'], class_statistics(chosen.raw, chosen.labels, 3).mean)
    assert torch.equal(generator.estimator._some(data, START).indices, chosen.indices)
    later = generator.estimator._some(data, Progress(40, 1000, 10))
    assert not torch.equal(later.indices, chosen.indices)
    assert torch.equal(
        estimated(data, images_per_class=8).estimator.statistics['var'], estimated(data).estimator.statistics['var']
    )


@pytest.mark.parametrize('gamma', [0.0, 0.3, 1.0])
def test_beta_of_zero_and_tau_of_infinity_leave_out_the_own_variance_and_gamma_of_one_leaves_the_pooled_one(gamma):
    data = training_set()
    correction = dict(beta=0, tau=math.inf, gamma=gamma, sigma_mean=math.inf, sigma_cov=math.inf, num_neighbors=5)
    corrected = estimated(data, correction=correction).estimator.statistics['corrected']
    count, _, var = class_statistics(data.raw, data.labels, 6)
    # All classes have as many images: the neighbors are the other five, with equal weights.
    others = torch.stack([var[[j for j in range(6) if j != k]].mean(0) for k in range(6)])
    torch.testing.assert_close(corrected, (1 - gamma) * others + gamma * pooled_variance(count, var))


def test_bad_options_name_what_would_be_right():
    for options, words in (
        (dict(center='origin'), r"center must be one of \['sample', 'mean'\], got 'origin'"),
        (dict(images_per_class=1), 'images_per_class must be None or >= 2, got 1'),
        (dict(noise='none'), r"noise must be one of \['diagonal', 'full', 'identity'\], got 'none'"),
    ):
        with pytest.raises(ValueError, match=words):
            IAAGenerator(**options)
