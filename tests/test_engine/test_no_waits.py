"""A training step reads no value of a tensor, which on an accelerator would make the host wait for the device.

    PYTHONPATH=tests pytest -p pretended_accelerator tests/test_engine/test_no_waits.py

also shows copies between host and device.
"""

import functools
import json
from typing import ClassVar

import pytest
import torch
from head_walk import CASES, batches, build
from mmengine.device import get_device
from mmengine.runner import EpochBasedTrainLoop
from tiny import tiny_config, train
from waits import Waits

from mmdml.registry import LOOPS
from mmdml.structures import Rows

DEVICE = get_device()
#: What waits at every step, by its nature. On a GPU these cost the time in which the host could have run ahead.
EVERY_STEP = {
    # Lists of tuples, whose lengths depend on similarities.
    ('models/miners/batch_hard_miner.py', '__call__'),
    ('models/miners/closest_beyond_cutoff_miner.py', '__call__'),
    ('models/miners/distance_weighted_miner.py', '__call__'),
    ('models/miners/easy_hard_miner.py', '__call__'),
    ('models/miners/hard_cluster_miner.py', '__call__'),
    ('models/miners/hard_fraction_miner.py', '__call__'),
    ('models/miners/multi_similarity_miner.py', '__call__'),
    ('models/miners/pair_margin_miner.py', '__call__'),
    ('models/miners/semi_hard_miner.py', '__call__'),
    ('models/miners/triplet_blocks.py', 'triplets_where'),
    # A row of X entries for each positive pair: how many rows there are depends on the labels.
    ('models/losses/pair_sums.py', 'positive_pairs'),
    # Only pairs that count have a place in the histogram; with all of them the CPU would do about twice the work.
    ('models/losses/histogram_loss.py', '_density'),
    # Matrices with a column for each class of the batch.
    ('models/losses/hist_loss.py', '_propagation'),
    ('models/losses/mean_field_class_wise_multi_similarity_loss.py', 'score'),
    # Rows are made of two rows of one class, or of two: how many depends on the labels.
    ('models/generators/metrix.py', 'forward'),
    ('models/generators/proxy_synthesis.py', 'forward'),
    ('models/generators/rows.py', 'pairs_of_one_class'),
    ('models/generators/rows.py', 'views_of_parents'),
    ('models/losses/proxy_loss.py', '_synthesized'),
    # The images of the classes of the batch and of their neighbors.
    ('models/generators/iaa/full_covariance.py', 'full_covariance_noise'),
    ('models/generators/iaa/full_covariance.py', '_scaled_rows'),
}
#: What waits once in a while, with all that it calls.
NOW_AND_THEN = {
    ('engine/hooks/runtime_info_hook.py', 'read'),  # a log line
    ('engine/hooks/console_hook.py', '_progress'),  # a sign of life, every 10 to 20 seconds
    ('models/heads/source_diagnostics.py', 'source_diagnostics'),
    ('engine/hooks/sweep_hook.py', '_serve'),  # estimates and divisions
    ('models/generators/iaa/estimator.py', 'std_of'),  # a learner's first step after an estimate
}
#: What waits for no device, but reads tensors of the host at every step.
ON_THE_HOST = {
    # On CUDA the device itself checks the condition, and the host goes on.
    ('structures/checks.py', 'require'),
    # torch checks the labels of one_hot on the CPU alone.
    ('models/losses/mean_field_contrastive_loss.py', 'score'),
    ('models/losses/potential_field_loss.py', 'score'),
    # On a device it looks at the losses of 50 steps together.
    ('engine/hooks/finite_loss_hook.py', '_look'),
    # Clusters of images are drawn and kept on the host.
    ('engine/hooks/division_hook.py', 'learner_of_step'),
    # MMEngine's average counts its steps there.
    ('engine/hooks/ema_hook.py', 'after_train_iter'),
}
if DEVICE != 'cpu':
    # Reads of the host are seen as such; what is left is a device that checks no condition by itself.
    ON_THE_HOST = {('structures/checks.py', 'require')}


@functools.cache
def waits_of(case):
    """Places that wait at the second round of steps: at the first one, estimates and memories move to the device."""
    head, neck, learners = build(CASES[case], DEVICE)
    for _ in range(2):
        places = {}
        for raw, arguments in batches(neck, learners, DEVICE):
            with Waits(DEVICE) as waits:
                losses = head.loss(*arguments)
                sum(value for name, value in losses.items() if 'loss' in name).backward()
            assert raw.grad is not None
            places.update(waits.places)
    return places


@pytest.mark.parametrize('case', CASES)
def test_a_step_of_a_head_waits_for_no_value(case):
    assert {place: lines for place, lines in waits_of(case).items() if place not in EVERY_STEP | ON_THE_HOST} == {}


def test_what_is_said_to_wait_does():
    found = {place for case in CASES for place in waits_of(case)}
    assert found >= EVERY_STEP


class Record:
    """Waits of the steps of a run."""

    steps: ClassVar[list] = []


@LOOPS.register_module()
class WatchedLoop(EpochBasedTrainLoop):
    """MMEngine's loop, watched while a step and its hooks run."""

    def run_iter(self, idx, data_batch):
        with Waits(DEVICE, NOW_AND_THEN) as waits:
            super().run_iter(idx, data_batch)
        Record.steps.append(waits.places)


def divided(cfg):
    cfg.model.neck = dict(type='DivideAndConquerEmbedding', in_channels=8, embed_dim=6, num_learners=2)
    cfg.model.head.type = 'DivideAndConquerHead'
    cfg.train_dataloader.sampler = dict(type='ClusterPKSampler', batch_size=6, images_per_class=2)
    cfg.custom_hooks = [dict(type='DivisionHook', divide_until=2)]


def averaged(cfg):
    cfg.custom_hooks = [dict(type='EMAHook'), dict(type='FreezeBackboneHook', epochs=1)]


@pytest.mark.parametrize('change', [divided, averaged])
def test_steps_of_a_run_and_their_hooks_wait_now_and_then(pictures, tmp_path, change):
    options = dict(
        default_hooks__logger__interval=100,
        model__head__diagnostics_interval=8,
    )
    cfg = tiny_config(pictures, tmp_path, **options)
    cfg.train_cfg = dict(type='WatchedLoop', max_epochs=3)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    change(cfg)
    Record.steps = []
    runner = train(cfg)
    assert len(Record.steps) == runner.iter >= 12
    strange = [places for places in Record.steps if not places.keys() <= NOW_AND_THEN | ON_THE_HOST]
    assert strange == []
    for place in NOW_AND_THEN:
        assert sum(place in places for places in Record.steps) <= len(Record.steps) / 4, place
    assert any(('engine/hooks/runtime_info_hook.py', 'read') in places for places in Record.steps)


def test_a_wait_is_found():
    rows = Rows.of_batch(torch.randn(3, 2, device=DEVICE), torch.arange(3, device=DEVICE))
    with Waits(DEVICE) as waits:
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
