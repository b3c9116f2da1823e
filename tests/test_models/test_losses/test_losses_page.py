"""The code of docs/losses.md runs, and its two losses are what their papers say."""

import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from tiny import REPO
from torch.nn.functional import normalize

from mmdml.models import EmbeddingHead
from mmdml.models.losses import Loss
from mmdml.models.necks import LinearEmbedding
from mmdml.registry import MODELS, TASK_UTILS
from mmdml.structures import PairBatch, Space

BLOCKS = re.findall(r'```python\n(.*?)```', Path(REPO, 'docs/losses.md').read_text(), flags=re.S)
LABELS = torch.tensor([0, 0, 1, 1])


@pytest.fixture(scope='module')
def parts():
    """The classes that the page defines, registered for this module only."""
    names = {}
    for block in BLOCKS:
        exec(compile(block, 'docs/losses.md', 'exec'), names)
    found = {
        name: part for name, part in names.items() if isinstance(part, type) and f'class {name}(' in ''.join(BLOCKS)
    }
    yield found
    for name, part in found.items():
        registry = MODELS if issubclass(part, Loss) else TASK_UTILS
        assert registry.module_dict.pop(name) is part


def pairs_of(raw):
    return PairBatch.from_embeddings(normalize(raw, dim=1), LABELS)


def raw_rows(width=2):
    return torch.randn(4, width, generator=torch.Generator().manual_seed(0)).requires_grad_()


def test_both_kinds_take_thirty_lines_at_most(parts):
    assert set(parts) == {'BinomialDevianceLoss', 'LargeMarginCosineLoss', 'EuclideanSpace'}
    for block in BLOCKS:
        if 'class ' in block:
            assert len(block.splitlines()) <= 30


def test_every_config_of_the_page_builds(parts):
    configs = [part for block in BLOCKS if block.startswith(('loss =', 'head =')) for part in [evaluated(block)]]
    assert len(configs) >= 7
    for config in configs:
        for name, registry in (('loss', MODELS), ('head', MODELS), ('miner', TASK_UTILS)):
            if name in config:
                registry.build(ConfigDict(config[name]))


def evaluated(block):
    names = {}
    exec(block, names)
    return names


def test_binomial_deviance_by_a_loop(parts):
    raw = raw_rows()
    pairs = pairs_of(raw)
    terms = []
    for i in range(4):
        for j in range(4):
            if i != j:
                sign = -1 if LABELS[i] == LABELS[j] else 1
                terms.append(math.log(1 + math.exp(sign * 2 * (float(pairs.similarity[i, j]) - 0.5))))
    value = MODELS.build(dict(type='BinomialDevianceLoss'))(pairs)
    assert float(value.detach()) == pytest.approx(sum(terms) / 12, rel=1e-5)
    value.backward()
    assert raw.grad.abs().sum() > 0


def test_large_margin_cosine_by_a_loop(parts):
    loss = MODELS.build(dict(type='LargeMarginCosineLoss', num_classes=3, embed_dim=2, margin=0.2, scale=5.0))
    pairs = pairs_of(raw_rows())
    cosine = (pairs.candidates.embeddings @ normalize(loss.proxies, dim=1).t()).tolist()
    values = []
    for row, label in zip(cosine, LABELS.tolist(), strict=True):
        own = math.exp(5 * (row[label] - 0.2))
        values.append(-math.log(own / (own + sum(math.exp(5 * c) for z, c in enumerate(row) if z != label))))
    assert float(loss(pairs).detach()) == pytest.approx(sum(values) / 4, rel=1e-5)


def test_the_space_of_the_page_trains_through_the_head(parts):
    assert issubclass(parts['EuclideanSpace'], Space)
    head = EmbeddingHead(dict(type='TripletLoss', margin=1.0), space=dict(type='EuclideanSpace'))
    raw = raw_rows()
    value = head.loss(raw, LABELS, None, LinearEmbedding(2, 2))['loss']
    value.backward()
    # Of unit vectors, its distance is the usual one.
    torch.testing.assert_close(value, MODELS.build(dict(type='TripletLoss', margin=1.0))(pairs_of(raw)))
    assert torch.isfinite(raw.grad).all() and raw.grad.abs().sum() > 0
