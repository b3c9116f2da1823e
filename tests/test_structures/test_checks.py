"""Checks that do not make the host wait for an accelerator."""

import pytest
import torch
from torch.nn.functional import normalize

from mmdml.models.losses.checks import check_class_range
from mmdml.registry import MODELS
from mmdml.structures import PairBatch
from mmdml.structures.checks import require

READS = {
    torch.Tensor.__bool__,
    torch.Tensor.__int__,
    torch.Tensor.__float__,
    torch.Tensor.item,
    torch.Tensor.tolist,
    torch.Tensor.nonzero,
    torch.nonzero,
}


class OnDevice(torch.Tensor):
    """A tensor that stands for one on a CUDA device: the host cannot read it without waiting."""

    is_cuda = True

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function in READS:
            raise AssertionError(f'the host waits for the device: {function.__name__}')
        return super().__torch_function__(function, types, args, kwargs or {})


def test_the_host_reads_the_condition_where_it_lies_on_the_host():
    require(torch.tensor(True), 'never said')
    with pytest.raises(ValueError, match='^x must be 1, got 7$'):
        require(torch.tensor(False), 'x must be 1', lambda: 7)


def test_a_condition_on_a_device_is_checked_there():
    require(torch.tensor(True).as_subclass(OnDevice), 'never said')
    with pytest.raises(AssertionError, match='the host waits'):
        bool(torch.tensor(True).as_subclass(OnDevice))
    # What the device says when it gets there.
    with pytest.raises(RuntimeError, match='Table has num_classes=3, so labels must lie in 0..2'):
        check_class_range(torch.tensor([0, 5]).as_subclass(OnDevice), 3, 'Table')


@pytest.mark.parametrize(
    'config',
    [
        dict(type='ProxyNCALoss', num_classes=4, embed_dim=6),
        dict(type='MarginLoss', beta_mode='class', num_classes=4),
        dict(type='ContrastiveLoss', reduction='mean'),
        dict(type='TripletLoss', reduction='mean'),
        dict(type='MultiSimilarityLoss'),
        dict(type='NPairsLoss'),
    ],
    ids=lambda config: config['type'],
)
def test_no_loss_makes_the_host_wait(config):
    raw = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(4).repeat_interleave(2)
    loss = MODELS.build(config)
    expected = loss(PairBatch.from_embeddings(normalize(raw, dim=1), labels))
    pairs = PairBatch.from_embeddings(normalize(raw, dim=1).as_subclass(OnDevice), labels.as_subclass(OnDevice))
    value = loss(pairs)
    value.backward()
    assert torch.equal(value.detach().as_subclass(torch.Tensor), expected.detach())
    assert raw.grad.abs().sum() > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_no_class_based_loss_synchronizes_a_cuda_device():
    raw = torch.randn(8, 6, device='cuda').requires_grad_()
    labels = torch.arange(4, device='cuda').repeat_interleave(2)
    loss = MODELS.build(dict(type='ProxyNCALoss', num_classes=4, embed_dim=6)).cuda()
    pairs = PairBatch.from_embeddings(normalize(raw, dim=1), labels)
    torch.cuda.set_sync_debug_mode('error')
    try:
        loss(pairs).backward()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert raw.grad.abs().sum() > 0
