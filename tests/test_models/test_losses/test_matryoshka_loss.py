"""Matryoshka loss: prefixes by a plain sum, parameters per width, and what it hands on."""

import pytest
import torch
from torch.nn.functional import normalize

from mmdml.models import DivideAndConquerHead, EmbeddingHead
from mmdml.models.losses import ContrastiveLoss, MatryoshkaLoss
from mmdml.models.necks import DivideAndConquerEmbedding, LinearEmbedding
from mmdml.registry import MODELS, TASK_UTILS
from mmdml.structures import PairBatch, Rows

LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def test_learners_that_are_joined_have_the_mean_of_what_counts_of_the_loss_inside():
    neck = MODELS.build(dict(type='DivideAndConquerEmbedding', in_channels=4, embed_dim=8, num_learners=2))
    loss = dict(type='MatryoshkaLoss', loss=dict(type='NPairsLoss'), shares=(1, 0.5))
    head = MODELS.build(dict(type='DivideAndConquerHead', loss=loss))
    head.bind(neck)
    for learner, scale in enumerate((3.0, -5.0)):
        for parameter in head.loss_of(learner).parameters():
            parameter.data.fill_(scale)
    head.join(2)
    assert [parameter.item() for parameter in head.loss_fn.parameters()] == [4, 4]


def raw_rows(width=8):
    raw = torch.randn(6, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return raw.requires_grad_()


def pairs_of(raw):
    """With a copy of each row, which shares its identity."""
    unit, views = normalize(torch.cat([raw, raw.roll(1, 1)])), torch.arange(6)
    return PairBatch(Rows(unit[:6], LABELS, views), Rows(unit, LABELS.repeat(2), views.repeat(2)))


@pytest.mark.parametrize('shares, widths', [((1, 0.5, 0.25), (8, 4, 2)), ((0.3, 0.01), (2, 1)), ((1,), (8,))])
def test_it_is_the_weighted_sum_over_renormalized_prefixes(shares, widths):
    weights = (1.0, 0.5, 2.0)[: len(shares)]
    pairs, expected = pairs_of(raw_rows()), 0.0
    for width, weight in zip(widths, weights, strict=True):
        anchors, rows = (
            part.with_embeddings(part.embeddings[:, :width] / part.embeddings[:, :width].norm(dim=1, keepdim=True))
            for part in (pairs.anchors, pairs.candidates)
        )
        expected = expected + weight * ContrastiveLoss()(PairBatch(anchors, rows))
    loss = MatryoshkaLoss(dict(type='ContrastiveLoss'), shares, weights)
    torch.testing.assert_close(loss(pairs), expected)


def test_gradient_is_that_of_the_value():
    loss = MatryoshkaLoss(dict(type='NPairsLoss'))
    assert torch.autograd.gradcheck(lambda raw: loss(pairs_of(raw)), raw_rows())


def test_mined_tuples_targets_and_exclusion_reach_every_width():
    pairs = pairs_of(raw_rows())
    loss = MatryoshkaLoss(dict(type='TripletLoss', reduction='mean', margin=2.0), shares=(0.5,))
    mined = TASK_UTILS.build(dict(type='BatchHardMiner'))(pairs.detach())
    assert loss(pairs, mined) != loss(pairs)
    images = torch.arange(6) // 2
    rows = Rows(pairs.anchors.embeddings, LABELS, torch.arange(6), images)
    # Without the pairs of one image there is no positive left.
    contrastive = MatryoshkaLoss(dict(type='ContrastiveLoss', neg_margin=1.0), shares=(0.5,))
    assert contrastive(PairBatch(rows, rows, exclude_same_image=True)) == 0
    assert contrastive(PairBatch(rows, rows)) > 0
    soft = PairBatch(rows, rows, targets=torch.full((6, 6), 0.5))
    assert contrastive(soft) > 0
    with pytest.raises(ValueError, match='TripletLoss cannot use soft targets'):
        loss(soft)


def test_a_loss_with_parameters_exists_once_per_width():
    loss = MatryoshkaLoss(dict(type='MarginLoss'), shares=(1, 0.5)).double()
    assert len(list(loss.parameters())) == 2 * len(list(MODELS.build(dict(type='MarginLoss')).parameters()))
    loss(pairs_of(raw_rows())).backward()
    assert all(parameter.grad is not None for parameter in loss.parameters())


@pytest.mark.parametrize(
    'options, error, words',
    [
        (dict(shares=()), ValueError, 'shares must be in'),
        (dict(shares=(1, 0)), ValueError, 'shares must be in'),
        (dict(shares=(1, 64)), ValueError, 'shares must be in'),
        (dict(shares=0.5), ValueError, r'shares must be in \(0, 1\], and at least one, got 0.5'),
        (dict(shares=(1, '0.5')), ValueError, 'shares must be in'),
        (dict(shares=(1, 0.5), weights=(1,)), ValueError, 'one for each of the 2 shares'),
        (dict(shares=(1,), weights=1.0), ValueError, 'one for each of the 1 shares, got 1.0'),
        (dict(shares=(1, 0.5), weights=(1, float('nan'))), ValueError, r'weights must be >= 0.*got \(1, nan\)'),
        (dict(shares=(1,), weights=(-1,)), ValueError, 'weights must be >= 0'),
        (dict(loss=dict(type='KoLeo')), TypeError, 'takes a loss, got KoLeo'),
    ],
)
def test_bad_options_name_what_would_be_right(options, error, words):
    with pytest.raises(error, match=words):
        MatryoshkaLoss(**options)


@pytest.mark.parametrize(
    'options',
    [
        dict(type='NormSoftmaxLoss', num_classes=3, embed_dim=8),
        dict(type='HISTLoss', num_classes=3, embed_dim=8),
        dict(type='CosFaceLoss', num_classes=3, embed_dim=8, sharded=True),
        dict(type='pml.ProxyAnchorLoss', num_classes=3, embedding_size=8),
        dict(type='pml.NTXentLoss'),
    ],
    ids=lambda options: options['type'],
)
def test_a_class_based_loss_has_proxies_for_each_width_and_a_loss_of_another_package_fits(options):
    pairs, loss = pairs_of(raw_rows()), MatryoshkaLoss(options, shares=(1, 0.25), weights=(1, 3)).double()
    unit = normalize(pairs.candidates.embeddings[:, :2], dim=1)
    short = PairBatch(pairs.anchors.with_embeddings(unit[:6]), pairs.candidates.with_embeddings(unit))
    whole, prefix = loss.losses
    found = loss(pairs)
    torch.testing.assert_close(found, whole(pairs) + 3 * prefix(short))
    found.backward()
    assert all(parameter.grad is not None for parameter in loss.parameters())


CLASS_BASED = dict(type='NormSoftmaxLoss', num_classes=3, embed_dim=8)
OF_PML = dict(type='pml.NormalizedSoftmaxLoss', num_classes=3, embedding_size=8)
NESTED = dict(type='MatryoshkaLoss', loss=CLASS_BASED, shares=(1, 0.5))


def test_prefixes_of_prefixes_have_proxies_of_their_width():
    loss = MatryoshkaLoss(NESTED, shares=(1, 0.5))
    assert [inner.embed_dim for part in loss.losses for inner in part.losses] == [8, 4, 4, 2]


@pytest.mark.parametrize('loss', [OF_PML, NESTED], ids=lambda loss: loss['type'])
def test_the_spaces_of_s2sd_give_their_width_to_any_class_based_loss(loss):
    s2sd = dict(type='S2SD', in_channels=8, dims=(10, 12), loss=loss)
    head, neck = EmbeddingHead(dict(type='ContrastiveLoss'), distillations=dict(s2sd=s2sd)), LinearEmbedding(8, 8)
    head.bind(neck)
    features = torch.randn(6, 8)
    head.loss(neck(features), LABELS, None, neck, features=features)['loss_s2sd_spaces'].backward()
    assert all(each.grad is not None for each in head.distillations['s2sd'].parameters())


@pytest.mark.parametrize('loss', [OF_PML, NESTED], ids=lambda loss: loss['type'])
def test_slices_refuse_proxies_that_cannot_be_cut_when_the_model_is_built(loss):
    slices = DivideAndConquerEmbedding(8, 8, num_learners=2)
    with pytest.raises(ValueError, match=f'{loss["type"]} has proxies as wide as the whole embedding, which cannot'):
        DivideAndConquerHead(loss).bind(slices)
    if loss is NESTED:
        term = dict(type='LossTerm', loss=loss, weight=1.0)
        with pytest.raises(ValueError, match='MatryoshkaLoss has proxies as wide as the whole embedding'):
            DivideAndConquerHead(dict(type='MarginLoss'), regularizers=dict(term=term)).bind(slices)
    DivideAndConquerHead(loss).bind(DivideAndConquerEmbedding(8, 8, num_learners=1))
    DivideAndConquerHead(loss).bind(DivideAndConquerEmbedding(8, 8, num_learners=2, division='masks'))
    DivideAndConquerHead(dict(type='MatryoshkaLoss', loss=dict(type='MarginLoss'))).bind(slices)


def test_sharded_proxies_inside_other_parts_need_gathered_rows_too():
    sharded = dict(type='CosFaceLoss', num_classes=3, embed_dim=8, sharded=True)
    wider = dict(type='S2SD', in_channels=8, dims=(8,), loss=sharded)
    for options in (
        dict(loss=dict(type='MatryoshkaLoss', loss=sharded)),
        dict(loss=dict(type='ContrastiveLoss'), distillations=dict(wider=wider)),
    ):
        with pytest.raises(ValueError, match='head.gather must be True'):
            EmbeddingHead(**options, gather=False).bind(LinearEmbedding(8, 8))


def test_proxies_of_each_width_are_mixed_as_the_rows_are():
    rows = Rows(normalize(raw_rows(), dim=1), LABELS, torch.arange(6), None, LABELS.roll(2), torch.full((6,), 0.7))
    loss = MatryoshkaLoss(dict(type='NormSoftmaxLoss', num_classes=3, embed_dim=8), shares=(0.5,)).double()
    unit = normalize(rows.embeddings[:, :4], dim=1)
    proxies = normalize(loss.losses[0].proxies, dim=1)
    mixed = normalize(0.7 * proxies[LABELS] + 0.3 * proxies[LABELS.roll(2)], dim=1)
    logits = unit @ torch.cat([proxies, mixed]).t() * loss.losses[0].scale
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(3, 9))
    torch.testing.assert_close(loss(PairBatch(rows, rows)), expected, rtol=1e-6, atol=0)
