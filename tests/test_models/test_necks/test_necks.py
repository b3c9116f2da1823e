import pytest
import torch

from mmdml.models import Conv4
from mmdml.models.necks import EmbeddingNeck, LinearEmbedding
from mmdml.registry import MODELS
from mmdml.structures.rows import unit_length

MAPS = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def test_average_and_maximum_pooling_and_their_sum():
    average = MODELS.build(dict(type='GlobalAveragePooling'))(MAPS)
    maximum = MODELS.build(dict(type='GlobalMaxPooling'))(MAPS)
    both = MODELS.build(dict(type='GlobalAverageMaxPooling'))(MAPS)
    flat = MAPS.flatten(2)
    torch.testing.assert_close(average, flat.mean(2))
    torch.testing.assert_close(maximum, flat.max(2).values)
    torch.testing.assert_close(both, average + maximum)


def test_generalized_mean_goes_from_average_to_maximum():
    def build(p):
        return MODELS.build(dict(type='GeneralizedMeanPooling', p=p))

    torch.testing.assert_close(build(1.0)(MAPS), MAPS.mean(dim=(2, 3)))
    torch.testing.assert_close(build(3.0)(MAPS), (MAPS**3).mean(dim=(2, 3)) ** (1 / 3))
    torch.testing.assert_close(build(200.0)(MAPS), MAPS.amax(dim=(2, 3)), rtol=0.03, atol=0)


@pytest.mark.parametrize('p', [0.5, 3.0, 30.0, 100.0])
@pytest.mark.parametrize('size', [1e-3, 1.0, 50.0])
def test_generalized_mean_and_its_gradient_equal_those_of_double_precision_for_any_exponent(p, size):
    maps = (size * MAPS).requires_grad_()
    pooling = MODELS.build(dict(type='GeneralizedMeanPooling', p=p))
    found = pooling(maps)
    exact, exponent = maps.detach().double().requires_grad_(), torch.tensor(p, dtype=torch.float64, requires_grad=True)
    wanted = exact.clamp_min(1e-6).pow(exponent).mean(dim=(2, 3)).pow(1 / exponent)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=0)
    found.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(maps.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(pooling.p.grad.double(), exponent.grad, rtol=1e-3, atol=1e-5 * size)
    assert pooling.double()(exact.detach()).dtype == torch.float64


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('pooling', ['GeneralizedMeanPooling', 'UnitPooling'])
def test_a_model_of_another_precision_embeds_by_poolings_of_fp32_at_least(pooling, dtype):
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='ImageEmbedder',
            backbone=dict(type='Conv4', channels=8),
            pooling=dict(type=pooling),
            neck=dict(type='LinearEmbedding', in_channels=8, embed_dim=6),
        )
    ).eval()
    images = torch.rand(3, 1, 32, 32)
    wanted, found = model(images), model.to(dtype)(images.to(dtype))
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    assert ((found * wanted).sum(1) > 0.999).all()


def test_generalized_mean_learns_its_exponent_only_if_told_to():
    learned = MODELS.build(dict(type='GeneralizedMeanPooling'))
    learned(MAPS).sum().backward()
    assert learned.p.grad.abs() > 0
    assert not MODELS.build(dict(type='GeneralizedMeanPooling', learnable=False)).p.requires_grad


@pytest.mark.parametrize(
    'name',
    ['GlobalAveragePooling', 'GlobalMaxPooling', 'GlobalAverageMaxPooling', 'GeneralizedMeanPooling'],
)
def test_pooling_takes_the_last_stage_and_lets_vectors_pass(name):
    pooling = MODELS.build(dict(type=name))
    vectors = torch.randn(2, 7)
    assert pooling((MAPS * 9, MAPS)).equal(pooling(MAPS))
    assert pooling((vectors,)).equal(vectors)
    with pytest.raises(ValueError, match=name + r' takes feature maps .*\(2, 3, 4\); tokens .*ClassTokenPooling'):
        pooling(torch.zeros(2, 3, 4))


def test_linear_embedding_starts_with_fan_out_weights_and_zero_bias():
    torch.manual_seed(0)
    neck = LinearEmbedding(2048, 512)
    assert neck.linear.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.01)
    assert neck.linear.bias.abs().max() == 0


def test_linear_embedding_names_the_width_it_got():
    with pytest.raises(ValueError, match=r'gives 5 features, but neck.in_channels is 4'):
        LinearEmbedding(4, 2)(torch.zeros(1, 5))


def test_unit_rows_have_norm_one_and_a_zero_row_gives_no_nan():
    raw = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0]], requires_grad=True)
    unit = LinearEmbedding(2, 2).unit(raw)
    torch.testing.assert_close(unit.norm(dim=1), torch.tensor([1.0, 0.0, 1.0]))
    unit.sum().backward()
    assert torch.isfinite(raw.grad).all()


@pytest.mark.parametrize(
    'neck',
    [
        dict(type='LinearEmbedding', in_channels=4, embed_dim=4),
        dict(type='DivideAndConquerEmbedding', in_channels=4, embed_dim=4, num_learners=2),
        dict(type='DivideAndConquerEmbedding', in_channels=4, embed_dim=4, num_learners=2, division='masks'),
    ],
    ids=lambda neck: neck['type'] + neck.get('division', ''),
)
def test_a_row_of_zeros_gets_no_gradient_beside_which_all_others_would_be_nothing(neck):
    neck = MODELS.build(neck)
    if neck.has_learners:
        neck.divide(2)
    for learner in (None, 0, 1) if neck.has_learners else (None,):
        raw = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
        raw[1] = 0
        raw.requires_grad_()
        neck.unit(raw, learner).sum().backward()
        assert 0 < raw.grad[::2].abs().max() < 100
        assert not raw.grad[1].any()


def test_unit_rows_have_value_and_gradient_of_normalize_bit_by_bit():
    raw = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    raw[0] *= 1e-20
    ours, theirs = raw.clone().requires_grad_(), raw.clone().requires_grad_()
    unit, expected = unit_length(ours), torch.nn.functional.normalize(theirs, dim=1)
    assert torch.equal(unit, expected)
    unit.pow(3).sum().backward()
    expected.pow(3).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


def test_a_row_of_zeros_has_a_gradient_of_a_usual_size_in_the_ball():
    raw = torch.tensor([[0.0, 0.0], [0.3, 0.4]], requires_grad=True)
    MODELS.build(dict(type='HyperbolicEmbedding', in_channels=2, embed_dim=2)).unit(raw).sum().backward()
    assert raw.grad.isfinite().all() and raw.grad.abs().max() < 10


def test_an_embedder_of_meta_tensors_gives_shapes():
    with torch.device('meta'):
        neck = LinearEmbedding(4, 2)
        assert neck(torch.zeros(3, 4)).shape == (3, 2)


def test_unit_rows_are_fp32_for_half_input():
    raw = torch.tensor([[300.0, 400.0]], dtype=torch.float16)
    torch.testing.assert_close(LinearEmbedding(2, 2).unit(raw), torch.tensor([[0.6, 0.8]]))


def test_conv4_reduces_28_pixels_to_one_position_and_refuses_tiny_pictures():
    backbone = Conv4(channels=8)
    assert backbone(torch.zeros(2, 1, 28, 28))[0].shape == (2, 8, 1, 1)
    with pytest.raises(ValueError, match='at least 16x16'):
        backbone(torch.zeros(2, 1, 12, 12))


NECKS = [
    dict(type='LinearEmbedding', in_channels=7, embed_dim=6),
    dict(type='DivideAndConquerEmbedding', in_channels=7, embed_dim=6, num_learners=3),
    dict(type='DivideAndConquerEmbedding', in_channels=7, embed_dim=6, num_learners=3, division='masks'),
    dict(type='IdentityEmbedding', in_channels=7),
]


@pytest.mark.parametrize('config', NECKS, ids=lambda config: config.get('division', config['type']))
def test_every_neck_checks_the_width_and_makes_unit_rows(config):
    neck = MODELS.build(config)
    raw = neck(torch.randn(4, 7))
    assert isinstance(neck, EmbeddingNeck) and raw.shape == (4, neck.embed_dim)
    assert neck.num_active == 1 and neck.num_learners == config.get('num_learners', 1) == len(neck.learner_widths)
    torch.testing.assert_close(neck.unit(raw).norm(dim=1), torch.ones(4))
    with pytest.raises(ValueError, match='gives 3 features, but neck.in_channels is 7'):
        neck(torch.randn(4, 3))
    with pytest.raises(ValueError, match='pooled features'):
        neck(MAPS)


@pytest.mark.parametrize(
    'config, change',
    [(NECKS[-1], dict(in_channels=0))]
    + [
        (config, change)
        for config in NECKS[:2]
        for change in (dict(in_channels=0), dict(embed_dim=0), dict(embed_dim=-3), dict(dropout=1.0))
    ],
    ids=str,
)
def test_widths_and_shares_out_of_range_are_refused(config, change):
    (name,) = change
    with pytest.raises(ValueError, match=f'{name} must be'):
        MODELS.build({**config, **change})


def test_division_returns_what_it_overwrote():
    slices, masks, fixed = (
        MODELS.build(dict(type='DivideAndConquerEmbedding', in_channels=7, embed_dim=6, num_learners=4, **options))
        for options in (dict(), dict(division='masks'), dict(division='masks', learned=False))
    )
    assert slices.divide(2) == [] and fixed.divide(2) == []
    (overwritten,) = masks.divide(2)
    assert overwritten is masks.learners.masks and masks.divide(2) == []
    linear = LinearEmbedding(7, 6)
    assert linear.divide(1) == []
    with pytest.raises(ValueError, match='LinearEmbedding has one learner, got 2'):
        linear.divide(2)


def test_widths_of_learners_are_those_of_their_unit_vectors():
    neck = MODELS.build(dict(type='DivideAndConquerEmbedding', in_channels=7, embed_dim=7, num_learners=3))
    neck.divide(3)
    raw = neck(torch.randn(2, 7))
    assert neck.learner_widths == (3, 2, 2) == tuple(neck.unit(raw, learner).shape[1] for learner in range(3))
    assert neck.partition.sizes == (3, 2, 2)
    masks = MODELS.build(dict(NECKS[2]))
    assert masks.partition is None and masks.learner_widths == (6, 6, 6)
