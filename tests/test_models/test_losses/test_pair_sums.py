"""Sums that losses share, in value and gradient, also at the limits of a type."""

import math

import pytest
import torch

from mmdml.models.losses.pair_sums import log_sum_exp


@pytest.mark.parametrize('dim', [0, 1])
@pytest.mark.parametrize('plus_one', [False, True])
def test_a_weighted_sum_of_exponentials_equals_its_formula_and_has_its_gradient(dim, plus_one):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, generator=random, dtype=torch.float64).requires_grad_()
    weight = torch.rand(4, 5, generator=random, dtype=torch.float64) * (torch.rand(4, 5, generator=random) > 0.3)
    expected = ((logits.exp() * weight).sum(dim) + plus_one).log()
    torch.testing.assert_close(log_sum_exp(logits, weight, dim, plus_one), expected)
    assert torch.autograd.gradcheck(lambda x: log_sum_exp(x, weight, dim, plus_one), (logits,))


def test_large_exponents_without_weight_and_sums_of_nothing_leave_value_and_gradient_finite():
    logits = torch.tensor([[1e4, -1e4, -1e4 + 1], [1e4, 0.0, 5.0]], requires_grad=True)
    weight = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    value = log_sum_exp(logits, weight)
    torch.testing.assert_close(value, torch.tensor([-1e4 + 1.3132617, float('-inf')]))
    (gradient,) = torch.autograd.grad(value[0] + value[1].clamp_min(0), logits)
    torch.testing.assert_close(gradient, torch.tensor([[0, 0.2689414, 0.7310586], [0, 0, 0]]))
    assert log_sum_exp(logits, weight, plus_one=True)[1] == 0
    assert log_sum_exp(logits[:, :0], weight[:, :0]).tolist() == [float('-inf')] * 2


def test_a_tiny_sum_is_not_lost_beside_one():
    value = log_sum_exp(torch.tensor([[-40.0]]), torch.ones(1, 1), plus_one=True)
    torch.testing.assert_close(value, torch.tensor([-40.0]).exp())


def test_exponents_of_minus_infinity_add_nothing_also_beside_a_tiny_weight():
    inf = float('inf')
    logits = torch.tensor([[-inf, -inf], [-inf, 2.0], [100.0, 0.0]], requires_grad=True)
    value = log_sum_exp(logits, torch.tensor([[1.0, 1.0], [1.0, 1.0], [1e-30, 1.0]]))
    torch.testing.assert_close(value, torch.tensor([-inf, 2.0, 100 + math.log(1e-30)]))
    (gradient,) = torch.autograd.grad(value.clamp_min(-9).sum(), logits)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
