import pytest
import torch

from mmdml.registry import MODELS

TOKENS = torch.arange(24.0).reshape(2, 4, 3)  # 2 pictures, class token and 3 patches, 3 channels


def test_the_class_token_is_the_first():
    pooled = MODELS.build(dict(type='ClassTokenPooling'))((torch.zeros(2, 9, 3), TOKENS))
    assert pooled.tolist() == [[0, 1, 2], [12, 13, 14]]


def test_the_average_leaves_the_tokens_before_the_patches_out():
    assert MODELS.build(dict(type='TokenAveragePooling'))(TOKENS).tolist() == [[6, 7, 8], [18, 19, 20]]
    pooling = MODELS.build(dict(type='TokenAveragePooling', prefix_tokens=3))
    assert pooling(TOKENS).tolist() == [[9, 10, 11], [21, 22, 23]]


def test_maps_with_the_channels_last_are_averaged_over_their_positions():
    pooled = MODELS.build(dict(type='TokenAveragePooling', prefix_tokens=0))((TOKENS.reshape(2, 2, 2, 3),))
    assert pooled.tolist() == [[4.5, 5.5, 6.5], [16.5, 17.5, 18.5]]


def test_maps_of_a_convolutional_network_are_refused_by_name():
    maps = torch.zeros(2, 7, 5, 3)
    for name in ('ClassTokenPooling', 'TokenAveragePooling'):
        with pytest.raises(ValueError, match=name + r' takes tokens .*\(2, 7, 5, 3\): .*GlobalAveragePooling'):
            MODELS.build(dict(type=name))(maps)


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r'ClassTokenPooling takes tokens .*got shape \(2, 3\)'):
        MODELS.build(dict(type='ClassTokenPooling'))(TOKENS[:, 0])
    with pytest.raises(ValueError, match='of 4 tokens, prefix_tokens=4 leave none'):
        MODELS.build(dict(type='TokenAveragePooling', prefix_tokens=4))(TOKENS)
    with pytest.raises(ValueError, match='prefix_tokens must be an integer of at least 0, got -1'):
        MODELS.build(dict(type='TokenAveragePooling', prefix_tokens=-1))


@pytest.mark.parametrize('name', ['GlobalAveragePooling', 'ClassTokenPooling'])
def test_several_tensors_of_a_stage_are_refused_with_their_shapes(name):
    with pytest.raises(ValueError, match=name + r' takes one tensor, got those of shapes \(2, 3\) and \(2, 4, 3\)'):
        MODELS.build(dict(type=name))([(TOKENS[:, 0], TOKENS)])
