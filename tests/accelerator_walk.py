"""Losses, generators, miners and regularizers on the pretended accelerator; ``test_pretended_accelerator.py`` runs it.

Losses, generators and miners are found in the registry: a new one is walked by being there.
"""

import inspect

import pytest
import torch

from mmdml.models import EmbeddingHead
from mmdml.models.generators import Generator
from mmdml.models.losses import Loss
from mmdml.models.miners.base import Miner
from mmdml.models.necks import LinearEmbedding
from mmdml.registry import MODELS
from mmdml.structures import Embeddings, Progress, StepContext

WIDTH, CLASSES = 12, 4
LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3])
MEMORY = dict(memory=dict(type='CrossBatchMemory', size=16, start=0))
IAA = dict(iaa=dict(type='IAAGenerator', onset=0))
SIZES = dict(num_classes=CLASSES, embed_dim=WIDTH, onset=0)


def parts_of(kind):
    registered = {part for part in MODELS.module_dict.values() if inspect.isclass(part) and issubclass(part, kind)}
    own = [part for part in registered if part.__module__.startswith('mmdml.')]
    return sorted(part.__name__ for part in own if part.__name__ != 'IAAGenerator')


def config_of(name, **options):
    takes = inspect.signature(MODELS.get(name)).parameters
    return dict(type=name, **{key: value for key, value in SIZES.items() if key in takes}, **options)


def heads():
    losses = parts_of(Loss)
    for name in losses:
        yield f'{name}, memory', dict(loss=config_of(name), sources=MEMORY)
    for name in ('MultiSimilarityLoss', 'ProxyAnchorLoss', 'TripletLoss'):
        yield f'{name}, IAA', dict(loss=config_of(name), sources=IAA)
    for name in parts_of(Generator):
        for loss in ('MultiSimilarityLoss', 'ProxyAnchorLoss'):
            yield f'{loss}, {name}', dict(loss=config_of(loss), sources=dict(made=config_of(name)))
    for name in parts_of(Miner):
        yield f'ContrastiveLoss, {name}', dict(loss=config_of('ContrastiveLoss'), miner=config_of(name))
    # MaskDiversity needs learned masks: a run with both is among those of test_pretended_accelerator.py.
    for name in ('AntiCollapse', 'CrossBatchSpread', 'EmbeddingNorm', 'KoLeo', 'LossTerm'):
        options = {'CrossBatchSpread': dict(size=16), 'LossTerm': dict(loss=config_of('ContrastiveLoss'))}.get(name, {})
        terms = dict(term=config_of(name, weight=0.1, **options))
        yield f'MultiSimilarityLoss, {name}', dict(loss=config_of('MultiSimilarityLoss'), regularizers=terms)


CASES = dict(heads())


def steps(config, device):
    """What two steps of a head give, on the host."""
    torch.manual_seed(0)
    head, neck = EmbeddingHead(**config).to(device), LinearEmbedding(WIDTH, WIDTH).to(device)
    if 'iaa' in config.get('sources', {}):
        labels = torch.arange(CLASSES).repeat(10)
        rows = torch.randn(len(labels), WIDTH, generator=torch.Generator().manual_seed(9))
        head.sources['iaa'].estimator.receive_embeddings(
            Embeddings(rows, labels, torch.arange(len(labels)), CLASSES), Progress(39, 100, 10)
        )
    found = []
    for step in range(40, 42):
        raw = torch.randn(8, WIDTH, generator=torch.Generator().manual_seed(step)).to(device).requires_grad_()
        where = StepContext(Progress(step, 100, 10))
        losses = head.loss(raw, LABELS.to(device), torch.arange(8).to(device), neck, where)
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
