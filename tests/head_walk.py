"""Every loss, generator, miner, memory and regularizer in a head, and two steps of it.

Losses, generators and miners are found in the registries: a new one is walked by being there.
"""

import inspect

import torch

from mmdml.models import DivideAndConquerHead, EmbeddingHead
from mmdml.models.generators import Generator
from mmdml.models.losses import Loss
from mmdml.models.miners.base import Miner
from mmdml.models.necks import DivideAndConquerEmbedding, LinearEmbedding
from mmdml.registry import MODELS, TASK_UTILS
from mmdml.structures import Embeddings, Progress, StepContext

WIDTH, CLASSES, LEARNERS = 12, 4, 2
LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3])
MEMORY = dict(memory=dict(type='CrossBatchMemory', size=16, start=0))
IAA = dict(iaa=dict(type='IAAGenerator', onset=0))
SIZES = dict(num_classes=CLASSES, embed_dim=WIDTH, onset=0)
LOSSES_OF_BOTH_KINDS = ('MultiSimilarityLoss', 'ProxyAnchorLoss')


def parts_of(kind, registry=MODELS):
    registered = {part for part in registry.module_dict.values() if inspect.isclass(part) and issubclass(part, kind)}
    own = [part for part in registered if part.__module__.startswith('mmdml.')]
    return sorted(part.__name__ for part in own if part.__name__ != 'IAAGenerator')


def config_of(name, registry=MODELS, **options):
    takes = inspect.signature(registry.get(name)).parameters
    return dict(type=name, **{key: value for key, value in SIZES.items() if key in takes}, **options)


def plain_heads():
    for name in parts_of(Loss):
        yield f'{name}, memory', dict(loss=config_of(name), sources=MEMORY)
    full = dict(iaa=dict(type='IAAGenerator', onset=1, source='bank', noise='full'))
    yield 'MultiSimilarityLoss, IAA of full covariance', dict(loss=config_of('MultiSimilarityLoss'), sources=full)
    for name in ('MultiSimilarityLoss', 'ProxyAnchorLoss', 'TripletLoss'):
        yield f'{name}, IAA', dict(loss=config_of(name), sources=IAA)
    for name in parts_of(Generator):
        for loss in LOSSES_OF_BOTH_KINDS:
            yield f'{loss}, {name}', dict(loss=config_of(loss), sources=dict(made=config_of(name)))
    miners = parts_of(Miner, TASK_UTILS)
    for name in miners:
        loss = config_of('TripletLoss' if 'Hard' in name else 'ContrastiveLoss')
        yield f'{loss["type"]}, {name}', dict(loss=loss, miner=config_of(name, TASK_UTILS))
    # MaskDiversity needs learned masks: a run with both is among those of test_pretended_accelerator.py.
    for name in ('AntiCollapse', 'CrossBatchSpread', 'EmbeddingNorm', 'KoLeo', 'LossTerm'):
        options = {'CrossBatchSpread': dict(size=16), 'LossTerm': dict(loss=config_of('ContrastiveLoss'))}.get(name, {})
        terms = dict(term=config_of(name, weight=0.1, **options))
        yield f'MultiSimilarityLoss, {name}', dict(loss=config_of('MultiSimilarityLoss'), regularizers=terms)
    for reduction in ('paper', 'nonzero'):
        loss = config_of('TripletLoss', negatives='all', reduction=reduction)
        yield f'TripletLoss of all negatives, {reduction}', dict(loss=loss, sources=MEMORY)
    yield 'MarginLoss by class', dict(loss=config_of('MarginLoss', beta_mode='class'))


def divided_heads():
    """Heads over two learners, by slices and by masks."""
    for division in ('slices', 'masks'):
        for name in ('MarginLoss', 'ProxyAnchorLoss', 'MultiSimilarityLoss'):
            options = dict(beta_mode='class') if name == 'MarginLoss' else {}
            terms = dict(diversity=dict(type='MaskDiversity', weight=0.1)) if division == 'masks' else {}
            yield (
                f'{name}, {division}, IAA, memory',
                dict(
                    type='DivideAndConquerHead',
                    division=division,
                    loss=config_of(name, **options),
                    sources={**IAA, **MEMORY},
                    regularizers=terms,
                ),
            )


CASES = {**dict(plain_heads()), **dict(divided_heads())}


def build(config, device):
    """A head, with an estimate of IAA where it has that source, its neck, and the learners that it trains in turn."""
    torch.manual_seed(0)
    config = dict(config)
    kind, division = config.pop('type', 'EmbeddingHead'), config.pop('division', None)
    if kind == 'DivideAndConquerHead':
        neck = DivideAndConquerEmbedding(WIDTH, WIDTH, num_learners=LEARNERS, division=division)
        head, learners = DivideAndConquerHead(**config), (*range(LEARNERS), None)
    else:
        neck, head, learners = LinearEmbedding(WIDTH, WIDTH), EmbeddingHead(**config), (None, None)
    head.bind(neck)
    head, neck = head.to(device), neck.to(device)
    if 'iaa' in config.get('sources', {}):
        labels = torch.arange(CLASSES).repeat(10)
        rows = torch.randn(len(labels), WIDTH, generator=torch.Generator().manual_seed(9))
        embeddings = Embeddings(rows, labels, torch.arange(len(labels)), CLASSES)
        head.sources['iaa'].estimator.receive_embeddings(embeddings, Progress(39, 100, 10))
    if len(learners) > 2:
        neck.divide(LEARNERS)
    return head, neck, learners


def batches(neck, learners, device):
    """The arguments of ``head.loss`` for one step after another; rows lead back to features with a gradient."""
    for number, learner in enumerate(learners):
        seed = torch.Generator().manual_seed(40 + number)
        raw = torch.randn(8, WIDTH, generator=seed).to(device).requires_grad_()
        active = () if learner is None else (neck.active(learner),)
        # A learner's slice is cut as the embedder does it.
        rows = raw if len(learners) == 2 else neck(raw, learner)
        labels, indices = LABELS.to(device), torch.arange(8).to(device)
        yield raw, (rows, labels, indices, neck, StepContext(Progress(40 + number, 100, 10), *active))
