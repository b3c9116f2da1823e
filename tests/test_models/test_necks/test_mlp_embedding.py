import pytest
import torch
from torch.nn import functional as F

from mmdml.models import ImageEmbedder
from mmdml.models.necks import MLPEmbedding, ResidualEmbedding


def test_mlp_is_linear_norm_relu_linear():
    torch.manual_seed(0)
    neck = MLPEmbedding(5, 3, hidden=(7, 6), norm='layer', dropout=0.5).eval()
    features = torch.randn(4, 5)
    first, second = neck.hidden[0], neck.hidden[4]
    hidden = F.relu(F.layer_norm(features @ first.weight.t() + first.bias, (7,)))
    hidden = F.relu(F.layer_norm(hidden @ second.weight.t() + second.bias, (6,)))
    torch.testing.assert_close(neck(features), hidden @ neck.linear.weight.t() + neck.linear.bias)
    assert not torch.equal(neck.train()(features), neck(features))


def test_residual_starts_at_the_features_and_every_layer_learns():
    torch.manual_seed(0)
    neck, features = ResidualEmbedding(5, hidden=(7,), norm='batch'), torch.randn(4, 5)
    assert torch.equal(neck(features), features) and neck.embed_dim == 5
    optimizer = torch.optim.SGD(neck.parameters(), lr=0.5)
    before = [value.clone() for value in neck.parameters()]
    for _ in range(2):
        optimizer.zero_grad()
        (neck(features) - 1).square().sum().backward()
        optimizer.step()
    # The bias before a batch norm has no effect.
    learned = {name for (name, value), old in zip(neck.named_parameters(), before, strict=True) if (value != old).any()}
    assert learned >= {'hidden.0.weight', 'hidden.1.weight', 'hidden.1.bias', 'linear.weight', 'linear.bias'}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(hidden=()), r'hidden must be one width or more, each at least 1, got \(\)'),
        (dict(hidden=64), r'hidden must be a list of whole numbers, one a layer, such as \[512\], got 64'),
        (dict(hidden='64'), "got '64'"),
        (dict(hidden=(4, 0)), r'got \(4, 0\)'),
        (dict(norm='group'), r"norm must be one of \['batch', 'layer', None\], got 'group'"),
        (dict(dropout=1.0), r'dropout must be in \[0, 1\), got 1.0'),
    ],
)
def test_wrong_options_are_named(options, message):
    for make in (lambda: MLPEmbedding(5, 3, **options), lambda: ResidualEmbedding(5, **options)):
        with pytest.raises(ValueError, match=message):
            make()


def test_features_reach_the_neck_as_they_are():
    model = ImageEmbedder(
        dict(type='Identity'), dict(type='IdentityEmbedding', in_channels=5),
        data_preprocessor=dict(type='FeaturePreprocessor'),
    )  # fmt: skip
    batch = model.data_preprocessor(dict(inputs=torch.arange(10).reshape(2, 5).double(), data_samples=['a', 'b']))
    assert batch['inputs'].dtype == torch.float32 and batch['data_samples'] == ['a', 'b']
    assert torch.equal(model(batch['inputs']), F.normalize(torch.arange(10.0).reshape(2, 5)))
    for inputs in ([torch.zeros(5)], torch.zeros(2, 3, 8, 8)):
        with pytest.raises(
            ValueError, match=r'must be features \(B, C\), got .*; the loader of features needs collate_fn='
        ):
            model.data_preprocessor(dict(inputs=inputs, data_samples=[]))
