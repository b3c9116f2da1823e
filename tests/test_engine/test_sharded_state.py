"""What training refuses where proxies are divided among ranks."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper

from mmdml.engine.hooks import MeanTeacherHook
from mmdml.engine.sharded_state import check_sharding
from mmdml.models.losses import CosFaceLoss


def run_with(hooks=(), sharded=True, **options):
    model = CosFaceLoss(4, 3, sharded=sharded)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1), **options)
    return SimpleNamespace(model=model, optim_wrapper=wrapper, hooks=list(hooks))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(clip_grad=dict(max_norm=1)), 'remove optim_wrapper.clip_grad'),
        (dict(hooks=[EMAHook()]), 'have no averaged weights: remove EMAHook, or set sharded=False'),
        (dict(hooks=[MeanTeacherHook()]), 'remove MeanTeacherHook'),
    ],
    ids=['clipping', 'average', 'teacher'],
)
def test_what_treats_a_part_of_the_proxies_as_the_whole_is_refused_on_several_ranks(options, message, monkeypatch):
    check_sharding(run_with(**options))
    monkeypatch.setattr('mmdml.engine.sharded_state.get_world_size', lambda: 2)
    check_sharding(run_with(**{**options, 'sharded': False}))
    with pytest.raises(ValueError, match=message):
        check_sharding(run_with(**options))
