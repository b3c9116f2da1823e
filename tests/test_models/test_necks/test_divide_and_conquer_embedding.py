"""Identities of the learners, slices and masks."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from mmdml.models import DivideAndConquerEmbedding, DivideAndConquerHead, EmbeddingHead, LinearEmbedding, MLPEmbedding
from mmdml.models.generators import IAAGenerator, correct_variance
from mmdml.structures import Embeddings, Progress, Rows, StepContext

LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def neck_with(num_learners, active=None, seed=0, dim=10, **options):
    torch.manual_seed(seed)
    neck = DivideAndConquerEmbedding(7, dim, num_learners, **options)
    neck.divide(active or num_learners)
    return neck


def features(rows=6):
    return torch.randn(rows, 7, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('options', [dict(), dict(division='masks'), dict(division='masks', learned=False)])
@pytest.mark.parametrize('learner', [None, 0])
def test_one_learner_is_the_plain_layer_bit_by_bit(options, learner):
    torch.manual_seed(0)
    plain = LinearEmbedding(7, 10)
    neck = neck_with(1, **options)
    raw = neck(features(), learner)
    assert torch.equal(raw, plain(features()))
    assert torch.equal(neck.unit(raw, learner), plain.unit(raw))
    results = []
    for head, layer in ((EmbeddingHead(dict(type='TripletLoss')), plain), (dc_head(neck), neck)):
        value = head.loss(layer(features(), learner), LABELS, None, layer, step_of(layer, learner))['loss']
        value.backward()
        results.append(value)
    assert torch.equal(*results)
    own = neck.learners.slices[0].weight if not options else neck.learners.layer.weight
    assert torch.equal(own.grad, plain.linear.weight.grad)


@pytest.mark.parametrize('division', ['slices', 'masks'])
def test_one_learner_behind_hidden_layers_is_the_mlp_bit_by_bit(division):
    hidden = dict(hidden=(8, 6), norm='layer', dropout=0.5)
    torch.manual_seed(0)
    plain = MLPEmbedding(7, 10, **hidden)
    neck = neck_with(1, division=division, **hidden)
    torch.manual_seed(1)
    expected = plain(features())
    torch.manual_seed(1)
    assert torch.equal(neck(features(), 0), expected)
    assert torch.equal(neck.eval()(features()), plain.eval()(features()))


@pytest.mark.parametrize('learner', [0, 2])
def test_hidden_layers_learn_from_every_learner_and_slices_from_their_own(learner):
    neck = neck_with(4, hidden=(8,))
    raw = neck(features(), learner)
    neck.unit(raw, learner).sum().backward()
    assert neck.hidden[0].weight.grad.abs().sum() > 0
    assert [part for part, layer in enumerate(neck.learners.slices) if layer.weight.grad is not None] == [learner]


def dc_head(neck, **options):
    head = DivideAndConquerHead(dict(type='TripletLoss'), **options)
    head.bind(neck)
    return head


def step_of(neck, learner):
    return StepContext(Progress(0, 10, 10), None if learner is None else neck.active(learner))


@pytest.mark.parametrize('learner', [0, 2])
def test_gradient_reaches_the_slice_of_the_active_learner_only_and_the_others_stay_under_adam(learner):
    neck = neck_with(4)
    optimizer = torch.optim.Adam(neck.parameters(), lr=0.1, weight_decay=0.1)
    inputs = features().requires_grad_()
    for _ in range(2):
        before = [parameter.clone() for parameter in neck.learners.parameters()]
        optimizer.zero_grad()
        dc_head(neck).loss(neck(inputs, learner), LABELS, None, neck, step_of(neck, learner))['loss'].backward()
        optimizer.step()
    moved = [not torch.equal(old, new) for old, new in zip(before, neck.learners.parameters(), strict=True)]
    assert moved == [part == learner for part in range(4) for _ in ('weight', 'bias')]
    assert inputs.grad.abs().sum() > 0
    assert all(neck.learners.slices[part].weight.grad is None for part in range(4) if part != learner)


def test_merged_embedding_is_the_concatenation_of_the_learners_over_the_root_of_k():
    neck = neck_with(4)
    raw = neck(features())
    parts = [neck.unit(raw, learner) for learner in range(4)]
    assert [part.shape[1] for part in parts] == [3, 3, 2, 2]
    merged = neck.unit(raw)
    torch.testing.assert_close(merged, torch.cat(parts, 1) / 2)
    torch.testing.assert_close(merged.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(merged @ merged.t(), sum(part @ part.t() for part in parts) / 4)


def test_scaling_one_slice_changes_neither_loss_nor_embedding():
    neck = neck_with(4)
    before = neck.unit(neck(features()))
    with torch.no_grad():
        neck.learners.slices[1].weight.mul_(3)
        neck.learners.slices[1].bias.mul_(3)
    torch.testing.assert_close(neck.unit(neck(features())), before)


def test_a_hierarchy_of_slices_joins_what_its_children_will_own():
    neck = neck_with(4, active=2)
    raw = neck(features())
    torch.testing.assert_close(neck.unit(raw, 0), normalize(raw[:, :6], dim=1))
    torch.testing.assert_close(neck.unit(raw, 1), normalize(raw[:, 6:], dim=1))
    loss = neck.unit(neck(features(), 1), 1).sum()
    loss.backward()
    assert [part.weight.grad is None for part in neck.learners.slices] == [True, True, False, False]


def test_children_start_from_their_parents_mask():
    neck = neck_with(4, active=2, division='masks')
    with torch.no_grad():
        neck.learners.masks[0], neck.learners.masks[1] = 0.5, 0.25
    neck.divide(4)
    assert neck.learners.masks[:, 0].tolist() == [0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize('active', [2, 4])
def test_fixed_masks_are_binary_disjoint_and_sum_to_ones(active):
    neck = neck_with(4, active=active, division='masks', learned=False)
    masks = neck.learners.masks[:active]
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(masks.sum(0), torch.ones(10))
    assert not list(name for name, _ in neck.named_parameters() if 'mask' in name)


def test_masked_learners_normalize_the_masked_embedding_and_evaluation_ignores_masks():
    neck = neck_with(2, division='masks')
    with torch.no_grad():
        neck.learners.masks.copy_(torch.randn(2, 10))
    raw = neck(features())
    torch.testing.assert_close(neck.unit(raw, 1), normalize(raw * neck.learners.masks[1].relu(), dim=1))
    assert torch.equal(neck.unit(raw), normalize(raw, dim=1))


def test_diversity_is_one_for_equal_masks_with_zero_gradient_zero_for_disjoint_ones_and_the_mean_cosine_otherwise():
    neck = neck_with(4, division='masks')
    neck.diversity().backward()
    assert neck.diversity().item() == pytest.approx(1)
    assert neck.learners.masks.grad.abs().max() < 1e-6
    with torch.no_grad():
        neck.learners.masks.copy_(torch.randn(4, 10))
    unit = normalize(neck.learners.masks.relu(), dim=1)
    cosines = [unit[i] @ unit[j] for i in range(4) for j in range(4) if i != j]
    torch.testing.assert_close(neck.diversity(), sum(cosines) / 12)
    assert neck_with(4, division='masks', learned=False).diversity() == 0
    assert neck_with(4).diversity() == 0


def test_the_diversity_term_enters_the_loss_in_the_divide_stage_only():
    neck = neck_with(2, division='masks')
    head = dc_head(neck, regularizers=dict(diversity=dict(type='MaskDiversity', weight=0.5)))
    divided = head.loss(neck(features(), 1), LABELS, None, neck, step_of(neck, 1))
    assert divided['loss_diversity'].item() == pytest.approx(0.5)
    assert 'loss_diversity' not in head.loss(neck(features()), LABELS, None, neck)


def test_masks_of_idle_learners_get_no_gradient_from_the_data():
    neck = neck_with(3, division='masks')
    dc_head(neck).loss(neck(features(), 1), LABELS, None, neck, step_of(neck, 1))['loss'].backward()
    assert neck.learners.masks.grad[1].abs().sum() > 0
    assert neck.learners.masks.grad[[0, 2]].abs().max() == 0


def test_learners_only_multiply_and_never_beyond_the_final_number():
    neck = neck_with(6, active=2)
    for wrong in (3, 12, 1):
        with pytest.raises(ValueError, match=f'2 learners can become a multiple of that, at most 6, got {wrong}'):
            neck.divide(wrong)
    with pytest.raises(ValueError, match='num_parts must be in 1..10'):
        neck_with(11)
    with pytest.raises(ValueError, match='division must be one of'):
        neck_with(2, division='trees')


@pytest.mark.parametrize('options', [dict(), dict(division='masks')], ids=['slices', 'masks'])
def test_iaa_corrects_in_the_space_of_the_learner_and_leaves_its_idle_neurons_alone(options):

    neck = neck_with(2, **options)
    if options:
        with torch.no_grad():
            neck.learners.masks.copy_(torch.rand(2, 10) - 0.3)
    raw = torch.randn(40, 10) * torch.arange(1, 11)
    data = Embeddings(raw, torch.arange(40) % 5, torch.arange(40), 5)
    progress = Progress(0, 10**6, 10)
    iaa = IAAGenerator(num_copies=3, lam=1.0, lam_schedule='constant', onset=0)
    iaa.estimator.receive_embeddings(data, progress)
    learner = neck.active(1)
    anchors = Rows.of_batch(raw[:1], data.labels[:1])
    steps = [StepContext(Progress(i, 10**6, 10), learner) for i in range(1500)]
    noise = torch.cat([iaa(anchors, step).embeddings - raw[:1] for step in steps])
    state = iaa.estimator.run_state()
    expected = correct_variance(state['count'], state['mean'] * learner.scale, state['var'] * learner.scale**2)[0]
    got = (noise * learner.scale).var(0)
    used = learner.scale > 0
    assert not used.all() and (noise[:, ~used] == 0).all()
    ratio = got[used] / expected[used]
    assert (ratio - 1).abs().max() < 4.5 * math.sqrt(2 / len(noise))
