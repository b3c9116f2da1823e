"""Proxies that are divided among two ranks against those of one process."""

import os
import uuid

import pytest
import torch
import torch.distributed as dist
from mmpretrain.structures import DataSample
from ranks import free_port, run_ranks
from tiny import tiny_config
from torch.nn.parallel import DistributedDataParallel

from mmdml.compat.load_weights import load_weights
from mmdml.engine.runner import build_runner
from mmdml.models import EmbeddingHead, ImageEmbedder
from mmdml.models.losses import CosFaceLoss
from mmdml.models.necks import LinearEmbedding
from mmdml.registry import MODELS
from mmdml.structures import PairBatch, Rows

CLASSES = 7  # 4 on rank 0, 3 on rank 1
LABELS = torch.tensor([0, 0, 3, 3, 4, 4, 6, 6])
LOSSES = {
    'NormSoftmaxLoss': {},
    'ProxyNCAPlusPlusLoss': {},
    'CosFaceLoss': dict(scale=8),
    'ArcFaceLoss': dict(scale=8, sub_centers=2),
    'SoftTripleLoss': dict(centers_per_class=3),
}


def model_with(loss, options, sharded):
    torch.manual_seed(0)
    return ImageEmbedder(
        backbone=dict(type='Conv4', channels=4),
        neck=dict(type='LinearEmbedding', in_channels=4, embed_dim=5),
        head=dict(
            type='EmbeddingHead',
            loss=dict(type=loss, num_classes=CLASSES, embed_dim=5, sharded=sharded, **options),
        ),
        freeze_bn_stats=True,
    ).train()


def batch():
    return torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def step(model, images, labels):
    samples = [DataSample().set_gt_label(int(label)) for label in labels]
    value = model(images, samples, mode='loss')['loss']
    value.backward()
    return value.item()


def on_a_rank(rank, port, folder, images, whole):
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), LOCAL_RANK=str(rank), RANK=str(rank))
    os.environ.update(WORLD_SIZE='2', LOCAL_WORLD_SIZE='2')
    torch.set_num_threads(1)
    dist.init_process_group('gloo', rank=rank, world_size=2)
    found = {}
    for name, options in LOSSES.items():
        model = model_with(name, options, sharded=True)
        load_weights(model, whole[name])
        parallel = DistributedDataParallel(model)
        value = step(parallel, batch()[4 * rank : 4 * rank + 4], LABELS[4 * rank : 4 * rank + 4])
        model.head.loss_fn.gather_shards()
        saved = model.state_dict()['head.loss_fn.proxies']
        gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
        found[name] = dict(value=value, gradients=gradients, saved=saved)
        del parallel
    # The first values do not depend on the number of ranks.
    torch.manual_seed(3)
    found['drawn'] = CosFaceLoss(20_001, 2, sharded=True).proxies.detach()
    whole_run = run(images, f'{folder}/whole', 2)
    found['runs'] = [whole_run, run(images, f'{folder}/rest', 2, f'{folder}/whole/epoch_1.pth')]
    torch.save(found, f'{folder}/{rank}.pth')
    dist.barrier()
    dist.destroy_process_group()


def run(images, work_dir, epochs, resumed=None):
    cfg = tiny_config(
        images,
        work_dir,
        'cos_face/cosface_conv4_omniglot.py',
        model__head__loss__sharded=True,
        model__head__loss__num_classes=8,
        model__head__loss__embed_dim=6,
        train_cfg__max_epochs=epochs,
        default_hooks__checkpoint__max_keep_ckpts=-1,
    )
    cfg.experiment_name = uuid.uuid4().hex
    if dist.is_initialized():
        cfg.launcher = 'pytorch'
        cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    cfg.load_from, cfg.resume = resumed, resumed is not None
    runner = build_runner(cfg)
    runner.train()
    model = runner.model.module if dist.is_initialized() else runner.model
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.fixture(scope='module')
def ranks(tmp_path_factory, pictures):
    folder = tmp_path_factory.mktemp('sharded')
    whole = {name: model_with(name, options, sharded=False).state_dict() for name, options in LOSSES.items()}
    run_ranks(on_a_rank, free_port(), str(folder), pictures, whole)
    return [torch.load(folder / f'{rank}.pth') for rank in range(2)], folder


@pytest.mark.slow
@pytest.mark.parametrize('name', LOSSES)
def test_two_ranks_have_the_loss_and_gradients_of_one(name, ranks):
    model = model_with(name, LOSSES[name], sharded=False)
    value = step(model, batch(), LABELS)
    parts = [found[name] for found in ranks[0]]
    assert [part['value'] for part in parts] == pytest.approx([value] * 2, rel=1e-5)
    expected = {key: parameter.grad for key, parameter in model.named_parameters()}
    proxies = torch.cat([part['gradients'].pop('head.loss_fn.proxies') for part in parts])
    torch.testing.assert_close(proxies, expected.pop('head.loss_fn.proxies'), rtol=1e-4, atol=1e-6)
    for part in parts:
        torch.testing.assert_close(part['gradients'], expected, rtol=1e-4, atol=1e-6)
        assert torch.equal(part['saved'], model.head.loss_fn.proxies)


@pytest.mark.slow
def test_each_rank_holds_its_part_and_draws_what_one_rank_would(ranks):
    torch.manual_seed(3)
    whole = CosFaceLoss(20_001, 2, sharded=True).proxies.detach()
    drawn = [found['drawn'] for found in ranks[0]]
    assert [len(part) for part in drawn] == [10_001, 10_000]
    assert torch.equal(torch.cat(drawn), whole)


@pytest.mark.slow
def test_a_resumed_run_of_two_ranks_goes_on_as_if_never_interrupted(ranks):
    found, folder = ranks
    for through, resumed in [each['runs'] for each in found]:
        torch.testing.assert_close(resumed, through, rtol=0, atol=0)
    saved = torch.load(folder / 'whole/epoch_2.pth', weights_only=False)
    proxies = torch.cat([each['runs'][0]['head.loss_fn.proxies'] for each in found])
    assert torch.equal(saved['state_dict']['head.loss_fn.proxies'], proxies) and len(proxies) == 8
    assert [entry['exp_avg'].shape for entry in saved['optimizer']['state'].values()].count(proxies.shape) == 1


@pytest.mark.slow
def test_a_checkpoint_of_two_ranks_loads_in_one_process_sharded_or_not(ranks):
    saved = torch.load(ranks[1] / 'whole/epoch_2.pth', weights_only=False)['state_dict']
    for sharded in (True, False):
        loss = CosFaceLoss(8, saved['head.loss_fn.proxies'].shape[1], sharded=sharded)
        loss.load_state_dict({'proxies': saved['head.loss_fn.proxies']})
        assert torch.equal(loss.proxies, saved['head.loss_fn.proxies'])


def test_one_process_computes_the_same_either_way():
    raw = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for name, options in LOSSES.items():
        values = []
        for sharded in (False, True):
            loss = model_with(name, options, sharded).head.loss_fn.double()
            loss.proxies.data = torch.randn(loss.proxies.shape, generator=torch.Generator().manual_seed(1)).double()
            rows = raw.clone().requires_grad_()
            value = loss(PairBatch.from_embeddings(torch.nn.functional.normalize(rows), LABELS))
            value.backward()
            values.append((value.detach(), rows.grad, loss.proxies.grad))
        torch.testing.assert_close(*values)


def test_rows_must_be_gathered():
    head = EmbeddingHead(dict(type='CosFaceLoss', num_classes=4, embed_dim=3, sharded=True), gather=False)
    with pytest.raises(ValueError, match='head.gather must be True'):
        head.bind(LinearEmbedding(3, 3))


def test_rows_between_two_classes_are_refused_with_the_reason():
    rows = Rows(torch.eye(2), LABELS[:2], torch.arange(2), None, LABELS[2:4], torch.full((2,), 0.5))
    with pytest.raises(ValueError, match='CosFaceLoss with sharded=True cannot use rows mixed from two classes'):
        CosFaceLoss(4, 2, sharded=True)(PairBatch(rows, rows))


def test_each_loss_begins_with_proxies_of_its_own_which_follow_the_seed():
    def drawn():
        torch.manual_seed(3)
        kind = dict(type='NormSoftmaxLoss', num_classes=7, embed_dim=4, sharded=True)
        return [MODELS.build(kind).proxies.detach() for _ in range(2)]

    first, second = drawn()
    assert not torch.equal(first, second)
    assert torch.equal(first, drawn()[0]) and torch.equal(second, drawn()[1])
