import pytest
import torch
from waves import shapes_of, wave_picture, wave_weights

from mmdml.models import GoogLeNet


def torchvision_googlenet(transform_input=False):
    """torchvision's network with classifier and auxiliary heads, as the public weights have them."""
    from torchvision.models import GoogLeNet as Reference

    network = Reference(transform_input=transform_input, init_weights=False)
    network.load_state_dict(wave_weights(shapes_of(network)))
    return network.eval()


@pytest.mark.parametrize('transform_input', [True, False])
def test_the_last_map_is_that_of_torchvision_with_the_same_weights(transform_input):
    reference, maps = torchvision_googlenet(transform_input), []
    reference.inception5b.register_forward_hook(lambda module, inputs, output: maps.append(output))
    network = GoogLeNet(transform_input=transform_input).eval()
    network.load_state_dict(reference.state_dict())
    picture = wave_picture(80)
    with torch.no_grad():
        reference(picture)
        (last,) = network(picture)
    assert last.shape == (1, 1024, 3, 3) and last.std() > 0.1
    torch.testing.assert_close(last, maps[0], rtol=1e-5, atol=1e-5)


def test_the_public_layout_loads_strictly_under_a_prefix_and_stays_as_it_is():
    public = {f'0.{key}': value for key, value in torchvision_googlenet().state_dict().items()}
    names = set(public)
    network = torch.nn.Sequential(GoogLeNet(transform_input=True))
    network.load_state_dict(public)
    assert torch.equal(network[0].inception5b.branch3[1].conv.weight, public['0.inception5b.branch3.1.conv.weight'])
    assert set(public) == names and {'0.fc.weight', '0.aux1.fc1.weight'} <= names


def test_what_the_public_layout_lacks_or_has_beyond_the_classifier_is_reported():
    weights = torchvision_googlenet().state_dict()
    weights['inception6a.conv.weight'] = weights.pop('conv1.conv.weight')
    with pytest.raises(RuntimeError, match=r'(?s)Missing.*conv1\.conv\.weight.*Unexpected.*inception6a\.conv\.weight'):
        GoogLeNet(transform_input=True).load_state_dict(weights)


def test_the_constants_of_transform_input_are_not_saved():
    network = GoogLeNet(transform_input=True)
    assert not [name for name in network.state_dict() if name.startswith('input_')]
    # Mean and deviation of ImageNet take black and white to -1 and 1.
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for value in (0.0, 1.0):
        normalized = ((value - mean) / std).view(3, 1, 1)
        torch.testing.assert_close(
            normalized * network.input_scale + network.input_shift, torch.full((3, 1, 1), 2 * value - 1)
        )


def test_transform_input_has_to_be_chosen():
    with pytest.raises(TypeError, match='transform_input'):
        GoogLeNet()


def test_the_smallest_picture_has_15_pixels():
    network = GoogLeNet(transform_input=True).eval()
    assert network(torch.zeros(1, 3, 15, 15))[0].shape == (1, 1024, 1, 1)
    with pytest.raises(ValueError, match=r'at least 15x15 pixels, got \(14, 40\)'):
        network(torch.zeros(1, 3, 14, 40))


def test_every_parameter_gets_a_gradient():
    network = GoogLeNet(transform_input=True).train()
    network(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))[0].square().sum().backward()
    assert not [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
