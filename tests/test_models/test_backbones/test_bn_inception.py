import pytest
import torch
from mmengine.runner import load_state_dict
from waves import shapes_of, wave_picture, wave_weights

from mmdml.models import BNInception


def public_layout():
    """A file like the public one: vectors of the batch norms as (1, C), no counters, and a classifier."""
    shapes = {name: shape for name, shape in shapes_of(BNInception()).items() if not name.endswith('_tracked')}
    shapes.update({'last_linear.weight': (10, 1024), 'last_linear.bias': (10,)})
    weights = wave_weights(shapes)
    return {name: value[None] if '_bn.' in name else value for name, value in weights.items()}


def test_the_last_map_has_the_values_of_the_pytorch_port():
    # Noted down from BNInception of the PyPI package pretrainedmodels 0.7.4 with the same weights.
    noted = [0.0, 5.4242201, 0.0, 8.3013916, 0.0, 0.0, 0.0, 10.6097546, 0.0, 0.0, 6.09798]
    network = BNInception().eval()
    network.load_state_dict(wave_weights(shapes_of(network)))
    with torch.no_grad():
        (last,) = network(wave_picture(64))
    assert last.shape == (1, 1024, 2, 2)
    torch.testing.assert_close(last[0, ::100, 0, 1], torch.tensor(noted), rtol=1e-5, atol=1e-5)


def test_the_layers_have_the_names_and_shapes_of_the_public_weights():
    network = BNInception()
    assert sum(parameter.numel() for parameter in network.parameters()) == 10_270_240
    shapes = shapes_of(network)
    assert len([name for name in shapes if name.endswith('_bn.running_mean')]) == 69
    for name, shape in {
        'conv1_7x7_s2': (64, 3, 7, 7),
        'conv2_3x3_reduce': (64, 64, 1, 1),
        'conv2_3x3': (192, 64, 3, 3),
        'inception_3a_pool_proj': (32, 192, 1, 1),
        'inception_3c_double_3x3_2': (96, 96, 3, 3),
        'inception_4a_1x1': (224, 576, 1, 1),
        'inception_4d_3x3_reduce': (128, 608, 1, 1),
        'inception_4e_double_3x3_1': (256, 192, 3, 3),
        'inception_5a_3x3': (320, 192, 3, 3),
        'inception_5b_double_3x3_reduce': (192, 1024, 1, 1),
    }.items():
        assert shapes[f'{name}.weight'] == shape and shapes[f'{name}.bias'] == shape[:1]
        assert shapes[f'{name}_bn.weight'] == shape[:1]
    for name in ('inception_3c_1x1.weight', 'inception_3c_pool_proj.weight', 'inception_4e_1x1.weight'):
        assert name not in shapes


@pytest.mark.parametrize('load', [torch.nn.Module.load_state_dict, load_state_dict], ids=['torch', 'mmengine'])
def test_the_public_layout_loads_strictly_under_a_prefix(load):
    public = public_layout()
    network = torch.nn.Sequential(BNInception())
    load(network, {f'0.{name}': value for name, value in public.items()}, strict=True)
    assert torch.equal(network[0].conv2_3x3_bn.running_var, public['conv2_3x3_bn.running_var'][0])
    assert torch.equal(network[0].inception_5b_1x1.weight, public['inception_5b_1x1.weight'])


def test_a_vector_of_another_length_is_still_refused():
    public = public_layout()
    public['conv2_3x3_bn.bias'] = torch.zeros(1, 191)
    with pytest.raises(RuntimeError, match=r'size mismatch for conv2_3x3_bn\.bias'):
        BNInception().load_state_dict(public)


def test_sizes_that_the_network_cannot_halve_are_refused():
    network = BNInception().eval()
    for size in (31, 38):
        assert network(torch.zeros(1, 3, size, size))[0].shape == (1, 1024, 1, 1)
    for size in (16, 30, 39, 112):
        with pytest.raises(ValueError, match=rf'multiples of 32 .*got \(64, {size}\)'):
            network(torch.zeros(1, 3, 64, size))


def test_every_weight_of_the_convolutions_and_norms_gets_a_gradient():
    network = BNInception().train()
    network(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))[0].square().sum().backward()
    # The biases of convolutions before a batch norm have none in training but by rounding.
    weights = [(name, value) for name, value in network.named_parameters() if '_bn.' in name or name.endswith('weight')]
    assert not [name for name, value in weights if value.grad is None or not value.grad.any()]
