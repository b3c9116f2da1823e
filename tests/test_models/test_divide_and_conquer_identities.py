"""Identities of divide and conquer that no other file checks, on the whole model."""

import pytest
import torch
from mmpretrain.structures import DataSample
from torch.nn.functional import normalize

from mmdml.evaluation.functional import retrieval_scores
from mmdml.models import DivideAndConquerEmbedding, DivideAndConquerHead, ImageEmbedder
from mmdml.structures import Progress, StepContext

NECKS = {'slices': dict(), 'masks': dict(division='masks'), 'fixed masks': dict(division='masks', learned=False)}
each_neck = pytest.mark.parametrize('options', NECKS.values(), ids=NECKS)


def neck_with(num_learners, dim=10, seed=0, **options):
    torch.manual_seed(seed)
    neck = DivideAndConquerEmbedding(7, dim, num_learners, **options)
    neck.divide(num_learners)
    return neck


def features(rows=6, seed=1):
    return torch.randn(rows, 7, generator=torch.Generator().manual_seed(seed))


def model_with(num_learners=3):
    torch.manual_seed(0)
    model = ImageEmbedder(
        backbone=dict(type='Conv4', channels=7),
        neck=dict(type='DivideAndConquerEmbedding', in_channels=7, embed_dim=10, num_learners=num_learners),
        head=dict(type='DivideAndConquerHead', loss=dict(type='MultiSimilarityLoss')),
    )
    model.neck.divide(num_learners)
    return model


# 2: gradient isolation


@pytest.mark.parametrize('learner', range(3))
def test_a_divide_step_of_the_whole_model_reaches_the_backbone_and_one_slice(learner):
    model = model_with()
    model.step = StepContext(Progress(0, 10, 10), model.neck.active(learner))
    samples = [DataSample().set_gt_label(label) for label in (0, 0, 1, 1)]
    images = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    model(images, samples, mode='loss')['loss'].backward()
    for part, layer in enumerate(model.neck.learners.slices):
        if part == learner:
            assert layer.weight.grad.abs().sum() > 0 and layer.bias.grad.abs().sum() > 0
        else:
            assert layer.weight.grad is None and layer.bias.grad is None
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.backbone.parameters() if parameter.ndim == 4)


# 3: one partition


@pytest.mark.parametrize('num_learners', [1, 3, 4, 10])
def test_loss_embedding_and_checkpoint_cut_the_neurons_at_the_same_places(num_learners):
    neck = neck_with(num_learners)
    raw = neck(features())
    sizes = [neck.unit(raw, learner).shape[1] for learner in range(num_learners)]
    assert sizes == list(neck.learners.partition.sizes) and sum(sizes) == 10 and max(sizes) - min(sizes) <= 1
    saved = neck.state_dict()
    assert [value.shape[0] for name, value in saved.items() if name.endswith('.weight')] == sizes
    # Where the merged embedding is cut shows in the norms of its pieces: all equal.
    pieces = neck.unit(raw).split(sizes, dim=1)
    for piece in pieces:
        torch.testing.assert_close(piece.norm(dim=1), torch.full((6,), num_learners**-0.5))
    scales = torch.stack([neck.active(learner).scale for learner in range(num_learners)])
    assert torch.equal(scales.sum(0), torch.ones(10)) and scales.sum(1).tolist() == sizes


@each_neck
def test_whoever_loads_a_checkpoint_embeds_alike_whatever_the_division_was(options):
    neck = neck_with(4, **options)
    fresh = DivideAndConquerEmbedding(7, 10, 4, **options)
    fresh.load_state_dict(neck.state_dict())
    assert fresh.num_active == 4
    for learner in (None, 0, 1, 2, 3):
        raw = neck(features(), learner)
        assert torch.equal(fresh(features(), learner), raw)
        assert torch.equal(fresh.unit(raw, learner), neck.unit(raw, learner))


# 4: merge


@pytest.mark.parametrize('num_learners', [1, 2, 4, 10])
def test_merged_cosines_and_squared_distances_are_means_over_learners_and_rank_as_the_unscaled_concatenation(
    num_learners,
):
    neck = neck_with(num_learners)
    raw = neck(features(20)).double()
    merged = neck.unit(raw)
    parts = [neck.unit(raw, learner) for learner in range(num_learners)]
    torch.testing.assert_close(merged @ merged.t(), sum(part @ part.t() for part in parts) / num_learners)
    squares = [torch.cdist(part, part, compute_mode='donot_use_mm_for_euclid_dist') ** 2 for part in parts]
    merged_square = torch.cdist(merged, merged, compute_mode='donot_use_mm_for_euclid_dist') ** 2
    torch.testing.assert_close(merged_square, sum(squares) / num_learners)
    whole = torch.cat(parts, 1)
    torch.testing.assert_close(merged * num_learners**0.5, whole)
    unscaled = torch.cdist(whole, whole, compute_mode='donot_use_mm_for_euclid_dist')
    assert torch.equal(unscaled.argsort(1), merged_square.argsort(1))


# 12: masks


def test_masks_of_ones_are_the_plain_embedding_for_every_learner():
    neck = neck_with(4, division='masks')
    raw = neck(features())
    assert torch.equal(neck.learners.masks, torch.ones(4, 10))
    for learner in range(4):
        assert torch.equal(neck.unit(raw, learner), normalize(raw, dim=1))


def test_a_mask_below_zero_shuts_a_neuron_and_its_gradient_off():
    neck = neck_with(2, division='masks')
    with torch.no_grad():
        neck.learners.masks[0, :4] = -0.5
    unit = neck.unit(neck(features()), 0)
    assert unit[:, :4].abs().max() == 0 and (unit[:, 4:] != 0).all()
    (unit * torch.randn_like(unit)).sum().backward()
    assert neck.learners.masks.grad[0, :4].abs().max() == 0
    assert neck.learners.layer.weight.grad[:4].abs().max() == 0


@each_neck
def test_more_learners_than_neurons_are_refused(options):
    with pytest.raises(ValueError, match=r'num_parts must be in 1\.\.10.*got 11'):
        neck_with(11, **options)


# 15: metrics


@pytest.mark.parametrize('seed', range(5))
def test_recall_grows_with_k_and_precision_weighted_by_rank_is_at_most_r_precision(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(60) % 7
    rows = torch.randn(7, 8, generator=generator)[labels] + 1.5 * torch.randn(60, 8, generator=generator)
    every_k = tuple(range(1, 60))
    scores = retrieval_scores(rows, labels, recall_at=every_k)
    recalls = [scores[f'Recall@{k}'] for k in every_k]
    assert recalls == sorted(recalls) and recalls[0] < recalls[-1] == 1
    assert 0 < scores['MAP@R'] < scores['RP'] < 1


def test_a_perfect_ranking_scores_one_and_copies_of_a_query_count_as_other_images():
    labels = torch.arange(12) % 3
    perfect = torch.eye(3)[labels]
    scores = retrieval_scores(perfect, labels, recall_at=(1, 3))
    assert scores == pytest.approx({'Recall@1': 1, 'Recall@3': 1, 'RP': 1, 'MAP@R': 1})
    # The same vectors under labels that never agree with those of their copies: nothing is found in the first place.
    turned = torch.arange(12) // 3
    assert retrieval_scores(perfect, turned, recall_at=(1,))['Recall@1'] == 0


def test_learners_that_are_joined_have_the_mean_of_their_inverse_temperatures_whatever_their_signs():
    head = DivideAndConquerHead(dict(type='NPairsLoss', scale=4.0))
    head.bind(DivideAndConquerEmbedding(7, 10, 2))
    head.divide(1, 2)
    with torch.no_grad():
        head.loss_of(0).scale.fill_(-4.0)
        head.loss_of(1).scale.fill_(6.0)
    head.join(2)
    assert head.loss_fn.scale.item() == 5
