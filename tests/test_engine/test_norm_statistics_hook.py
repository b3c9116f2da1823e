"""Batch norms of two ranks see different images; what is sent for them, and when."""

import os.path as osp

import torch
from ranks import run_group
from torch import nn

from mmdml.registry import HOOKS


class Run:
    """What the hook looks at."""

    def __init__(self, model):
        self.model = model


def average_on_a_rank(rank, world_size, out):
    norms = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2), nn.LayerNorm(2)).train()
    norms[1].eval()
    norms.register_buffer('table', torch.tensor([float(rank)]))
    for norm in norms[:2]:
        norm.running_mean.fill_(rank)
        norm.num_batches_tracked.fill_(5)
    HOOKS.build(dict(type='NormStatisticsHook')).after_train_iter(Run(norms), 0)
    torch.save(norms.state_dict(), osp.join(out, f'{rank}.pth'))


def test_statistics_that_are_learned_are_averaged_and_nothing_else(tmp_path):
    run_group(average_on_a_rank, str(tmp_path))
    for rank in range(2):
        state = torch.load(tmp_path / f'{rank}.pth')
        assert state['0.running_mean'].tolist() == [0.5, 0.5] and state['0.num_batches_tracked'] == 5
        assert state['1.running_mean'].tolist() == [rank, rank]  # in evaluation mode
        assert state['table'].tolist() == [rank]
