import pytest
import torch

from mmdml.models import Conv4
from mmdml.models.necks import LinearEmbedding
from mmdml.registry import MODELS

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
    with pytest.raises(ValueError, match='got shape'):
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


def test_unit_rows_are_fp32_for_half_input():
    raw = torch.tensor([[300.0, 400.0]], dtype=torch.float16)
    torch.testing.assert_close(LinearEmbedding(2, 2).unit(raw), torch.tensor([[0.6, 0.8]]))


def test_conv4_reduces_28_pixels_to_one_position_and_refuses_tiny_pictures():
    backbone = Conv4(channels=8)
    assert backbone(torch.zeros(2, 1, 28, 28))[0].shape == (2, 8, 1, 1)
    with pytest.raises(ValueError, match='at least 16x16'):
        backbone(torch.zeros(2, 1, 12, 12))
