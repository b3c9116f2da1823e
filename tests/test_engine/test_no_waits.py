"""A training step reads no value of a tensor, which on an accelerator would make the host wait for the device."""

import json
import traceback
from pathlib import Path

import pytest
import torch
from mmpretrain.structures import DataSample
from tiny import tiny_config, train
from torch.utils._python_dispatch import TorchDispatchMode

import mmdml
from mmdml.models import ImageEmbedder
from mmdml.structures import Embeddings, Progress, Rows, StepContext

ROOT = Path(mmdml.__file__).parent
# Operators whose result, or its shape, the host has to know: .item(), int(), bool(), .tolist(), nonzero(), masks as
# indices, unique().
WAITING = ('_local_scalar_dense', 'nonzero', 'masked_select', '_unique2', 'unique_dim', 'unique_consecutive', 'equal')
ALLOWED = {
    # On CUDA the device itself checks the condition, and the host goes on.
    ('structures/checks.py', 'require'),
    # Mined tuples are lists of indices, whose lengths depend on the similarities.
    ('models/miners/batch_hard_miner.py', '__call__'),
    ('models/miners/distance_weighted_miner.py', '__call__'),
}


class Waits(TorchDispatchMode):
    """Record where such operators are called from."""

    def __init__(self):
        super().__init__()
        self.places = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        masked = 'index' in str(function) and any(
            isinstance(each, torch.Tensor) and each.dtype == torch.bool
            for arg in args
            if isinstance(arg, (list, tuple))
            for each in arg
        )
        if masked or function.overloadpacket.__name__ in WAITING:
            own = [frame for frame in traceback.extract_stack() if Path(frame.filename).is_relative_to(ROOT)]
            if own:
                place = (Path(own[-1].filename).relative_to(ROOT).as_posix(), own[-1].name)
                if place not in ALLOWED:
                    self.places.add((*place, own[-1].line))
        return function(*args, **(kwargs or {}))


CASES = {
    'ms': dict(loss=dict(type='MultiSimilarityLoss')),
    'contrastive with memory': dict(
        loss=dict(type='ContrastiveLoss'),
        sources=dict(memory=dict(type='CrossBatchMemory', size=32, start=0)),
    ),
    'triplet with batch-hard miner': dict(loss=dict(type='TripletLoss'), miner=dict(type='BatchHardMiner')),
    'margin with distance-weighted miner': dict(loss=dict(type='MarginLoss'), miner=dict(type='DistanceWeightedMiner')),
    'proxy': dict(loss=dict(type='CosFaceLoss', num_classes=4, embed_dim=6)),
    'proxy anchor': dict(loss=dict(type='ProxyAnchorLoss', num_classes=4, embed_dim=6)),
    'iaa': dict(loss=dict(type='MultiSimilarityLoss'), sources=dict(iaa=dict(type='IAAGenerator', onset=0))),
    'regularized': dict(loss=dict(type='SupConLoss'), regularizers=dict(koleo=dict(type='KoLeo', weight=0.1))),
}


@pytest.mark.parametrize('head', CASES.values(), ids=list(CASES))
def test_a_step_waits_for_no_value(head):
    torch.manual_seed(0)
    model = ImageEmbedder(
        backbone=dict(type='Conv4', channels=4),
        neck=dict(type='LinearEmbedding', in_channels=4, embed_dim=6),
        head=dict(type='EmbeddingHead', diagnostics_interval=0, **head),
        freeze_bn_stats=True,
    ).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    if 'iaa' in head.get('sources', {}):
        data = Embeddings(torch.randn(40, 6), torch.arange(4).repeat(10), torch.arange(40), 4)
        model.head.sources['iaa'].estimator.receive_embeddings(data, Progress(0, 10, 5))
    images = torch.randn(8, 1, 28, 28)
    samples = [DataSample(metainfo=dict(sample_idx=i)).set_gt_label(i // 2) for i in range(8)]
    for at in range(2):
        model.step = StepContext(Progress(iter=at, max_iters=10, epoch_length=5))
        with Waits() as waits:
            loss = model.loss(images, samples)['loss']
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert waits.places == set()


def test_a_wait_is_found():
    rows = Rows.of_batch(torch.randn(3, 2), torch.arange(3))
    with Waits() as waits:
        rows[rows.labels > 0]
    assert {place[0] for place in waits.places} == {'structures/rows.py'}


def test_losses_reach_the_log_as_if_read_at_every_step(pictures, tmp_path):
    def losses(kind, interval):
        cfg = tiny_config(pictures, tmp_path / kind / str(interval), train_cfg__max_epochs=2)
        cfg.default_hooks.runtime_info.type = kind
        cfg.default_hooks.logger.interval = interval
        runner = train(cfg)
        history, _ = runner.message_hub.get_scalar('train/loss').data
        log = next((tmp_path / kind / str(interval)).rglob('scalars.json')).read_text().splitlines()
        lines = [json.loads(line) for line in log]
        return history.tolist(), [line['loss'] for line in lines if 'loss' in line]

    for interval in (1, 2):
        assert losses('RuntimeInfoHook', interval) == losses('mmengine.RuntimeInfoHook', interval)
