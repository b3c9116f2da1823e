"""mmdml/utils/weights_hash.py: the same weights, the same hash."""

import torch
from torch import nn

from mmdml.utils.weights_hash import weights_hash


def test_the_hash_names_weights_whatever_their_order_and_changes_with_every_value_name_shape_and_type():
    weights = dict(a=torch.arange(6.0).reshape(2, 3), b=torch.tensor(1), c=torch.tensor(1.0, dtype=torch.bfloat16))
    known = weights_hash(weights)
    assert len(known) == 64 and weights_hash(dict(reversed(weights.items()))) == known
    assert weights_hash({**weights, 'a': weights['a'].t().contiguous().t()}) == known
    others = [
        {**weights, 'a': weights['a'] + 1e-6},
        {**weights, 'a': weights['a'].reshape(3, 2)},
        {**weights, 'b': torch.tensor(1, dtype=torch.int32)},
        {**weights, 'd': torch.empty(0)},
        {'x' + name: value for name, value in weights.items()},
    ]
    assert len({known, *map(weights_hash, others)}) == 6


def test_a_module_and_its_state_dict_have_one_hash():
    model = nn.BatchNorm1d(3)
    before = weights_hash(model)
    assert before == weights_hash(model.state_dict())
    model(torch.randn(4, 3))
    assert weights_hash(model) != before
