"""Heads on the pretended accelerator; ``test_pretended_accelerator.py`` runs it."""

import pytest
import torch
from head_walk import CASES, batches, build


def steps(config, device):
    """What steps of a head give, on the host."""
    head, neck, learners = build(config, device)
    found = []
    for raw, arguments in batches(neck, learners, device):
        losses = head.loss(*arguments)
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        assert losses['loss'].device.type == raw.grad.device.type == torch.device(device).type
        gradients = [parameter.grad for parameter in head.parameters() if parameter.grad is not None]
        found += [value.detach().cpu().clone() for value in (losses['loss'], raw.grad, *gradients)]
    return found


@pytest.mark.parametrize('config', CASES.values(), ids=list(CASES))
def test_a_head_stays_on_its_device_and_gives_the_values_of_the_host(config):
    host, device = steps(config, 'cpu'), steps(config, 'pretended')
    assert len(host) == len(device) and all(map(torch.equal, host, device))


@pytest.mark.parametrize(
    'function',
    [
        lambda x, y: x + y,
        lambda x, y: x @ y.T,
        lambda x, y: y[x > 0],
        lambda x, y: y.copy_(x).add_(x),
        lambda x, y: torch.cat([x, y]),
        lambda x, y: torch.equal(x, y),
        lambda x, y: x.gather(1, y.long()),
        lambda x, y: x.long().index_put((torch.tensor([0]),), y[:1].long()),
        lambda x, y: torch.randn(3, generator=torch.Generator(), device=x.device),
        lambda x, y: torch.randperm(3, generator=torch.Generator(x.device)),
    ],
)
def test_tensors_and_generators_of_the_host_are_refused(function):
    with pytest.raises(RuntimeError, match='on one device'):
        function(torch.randn(3, 2).to('pretended'), torch.ones(3, 2))


def test_numbers_and_indices_of_the_host_are_taken_and_numpy_is_not():
    rows = torch.randn(3, 2).to('pretended')
    assert (rows + torch.tensor(1.0)).cpu().equal(rows.cpu() + 1)
    assert rows[torch.tensor([2, 0])].cpu().equal(rows.cpu()[[2, 0]])
    drawn = torch.randn(3, generator=torch.Generator(rows.device).manual_seed(0), device=rows.device)
    assert drawn.cpu().equal(torch.randn(3, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(TypeError, match='numpy'):
        rows.numpy()
