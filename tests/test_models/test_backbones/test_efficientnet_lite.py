import pytest
import timm
import torch
from waves import shapes_of, wave_picture, wave_weights

from mmdml.models import EfficientNetLite0, EfficientNetLite2


@pytest.mark.parametrize(
    ('backbone', 'name'), [(EfficientNetLite0, 'tf_efficientnet_lite0'), (EfficientNetLite2, 'tf_efficientnet_lite2')]
)
def test_the_last_map_is_that_of_timm(backbone, name):
    """The picture has an even side at each halving, where padding all around and TensorFlow's padding differ."""
    network, reference = backbone().eval(), timm.create_model(name).eval()
    network.load_state_dict(wave_weights(shapes_of(network)))
    # The layers have other names there, and the same order.
    names = [name for name in reference.state_dict() if not name.startswith('classifier')]
    reference.load_state_dict(dict(zip(names, network.state_dict().values(), strict=True)), strict=False)
    with torch.no_grad():
        (last,), expected = network(wave_picture(64)), reference.forward_features(wave_picture(64))
    assert last.shape == (1, 1280, 2, 2) and expected.std() > 0.1
    torch.testing.assert_close(last, expected, rtol=1e-5, atol=1e-5)


def test_the_layout_of_the_package_loads_strictly_under_a_prefix():
    # The file of the package: 296 entries, 3.37 million parameters without the classifier; Lite2's has 386.
    network = torch.nn.Sequential(EfficientNetLite0())
    public = wave_weights({**shapes_of(network), '0._fc.weight': (10, 1280), '0._fc.bias': (10,)})
    assert len(public) == 296 and len(EfficientNetLite2().state_dict()) == 386 - 2
    network.load_state_dict(public)
    assert torch.equal(network[0]._blocks[15]._project_conv.weight, public['0._blocks.15._project_conv.weight'])
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_371_008


def test_every_parameter_gets_a_gradient():
    network = EfficientNetLite0().train()
    network(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))[0].square().sum().backward()
    assert not [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
