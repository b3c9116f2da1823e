"""Two processes on the CPU (gloo) against one."""

import os
import os.path as osp
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from ranks import free_port, run_group
from tiny import REPO, tiny_config
from torch.nn.parallel import DistributedDataParallel

from mmdml.dist import gather_rows
from mmdml.models import EmbeddingHead, ImageEmbedder
from mmdml.models.losses import Loss, ProxyLoss
from mmdml.models.necks import LinearEmbedding
from mmdml.registry import MODELS
from mmdml.structures import Embeddings, Progress, Rows, StepContext

# They start processes that take several seconds each.
pytestmark = pytest.mark.slow

LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])


@pytest.fixture(scope='module')
def of_two_ranks(tmp_path_factory):
    """For each rank what each work returned, by name. One start of the processes serves all of them."""
    folder = tmp_path_factory.mktemp('works')
    run_group(all_works, str(folder))
    return [torch.load(folder / f'{rank}.pth') for rank in range(2)]


def all_works(rank, world_size, folder):
    torch.save({name: work(rank, world_size, *args) for name, (work, *args) in works().items()}, f'{folder}/{rank}.pth')


def model_with(loss, gather=True):
    torch.manual_seed(0)
    model = ImageEmbedder(
        backbone=dict(type='Conv4', channels=6),
        neck=dict(type='LinearEmbedding', in_channels=6, embed_dim=4),
        head=dict(
            type='EmbeddingHead',
            loss=loss,
            gather=gather,
            sources=dict(iaa=dict(type='IAAGenerator', num_copies=2, onset=0)),
        ),
        freeze_bn_stats=True,  # batch statistics would differ between a half and a whole batch
    ).train()
    raw = torch.randn(40, 4)
    data = Embeddings(raw, torch.arange(4).repeat(10), torch.arange(40), 4)
    model.head.sources['iaa'].estimator.receive_embeddings(data, Progress(0, 10, 5))
    return model


def global_batch():
    torch.manual_seed(1)
    return torch.randn(8, 1, 28, 28), [DataSample().set_gt_label(int(label)) for label in LABELS]


def gradients(model):
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def global_loss_on_a_rank(rank, world_size, loss, chunk_size):
    model = model_with(dict(type=loss))
    model.chunk_size = chunk_size
    model.step = StepContext(Progress(3, 10, 5, rank=rank, world_size=world_size))
    wrapped = DistributedDataParallel(model)
    inputs, samples = global_batch()
    part = slice(4 * rank, 4 * rank + 4)
    value = wrapped(inputs[part], samples[part], mode='loss')['loss']
    value.backward()
    return value.detach(), gradients(model)


GLOBAL_LOSSES = [
    ('ContrastiveLoss', None),
    ('TripletLoss', None),
    ('MultiSimilarityLoss', None),
    ('MultiSimilarityLoss', 3),
]


@pytest.mark.parametrize('loss, chunk_size', GLOBAL_LOSSES)
def test_gathered_loss_and_gradient_with_iaa_equal_one_process_on_the_global_batch(of_two_ranks, loss, chunk_size):
    model = model_with(dict(type=loss))
    model.step = StepContext(Progress(3, 10, 5))
    value = model(*global_batch(), mode='loss')['loss']
    value.backward()
    assert value > 0
    for found in of_two_ranks:
        ranks_value, ranks_gradients = found[f'{loss} {chunk_size}']
        torch.testing.assert_close(ranks_value, value.detach())
        for name, gradient in gradients(model).items():
            torch.testing.assert_close(ranks_gradients[name], gradient, rtol=1e-4, atol=1e-6)


def loss_configs():
    """Every registered loss, with what has no default."""
    configs = {}
    for name, part in sorted(MODELS.module_dict.items()):
        if isinstance(part, type) and issubclass(part, Loss) and part.__module__.startswith('mmdml.'):
            sizes = dict(num_classes=4, embed_dim=6) if issubclass(part, ProxyLoss) else {}
            configs[name] = dict(type=name, **sizes)
    return configs


def losses_of(raw, labels):
    """Value and gradients of every loss through a head that gathers."""
    results = {}
    for name, config in loss_configs().items():
        torch.manual_seed(0)
        head, own = EmbeddingHead(config).double(), raw.clone().requires_grad_()
        value = head.loss(own, labels, None, LinearEmbedding(3, 6))['loss']
        value.backward()
        results[name] = value.detach(), own.grad, [parameter.grad for parameter in head.parameters()]
    return results


def every_row():
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def every_loss_on_a_rank(rank, world_size):
    part = slice(4 * rank, 4 * rank + 4)
    return losses_of(every_row()[part], LABELS[[0, 2, 4, 6, 1, 3, 5, 7]][part])


def test_every_loss_of_gathered_rows_equals_one_process_on_all_rows(of_two_ranks):
    """No rank has a positive of its own rows."""
    whole = losses_of(every_row(), LABELS[[0, 2, 4, 6, 1, 3, 5, 7]])
    assert len(whole) >= 20
    for rank, found in enumerate(of_two_ranks):
        for name, (value, gradient, of_parameters) in whole.items():
            # The gradient of rows is the sum over both ranks' losses, which DistributedDataParallel averages again.
            expected = value, 2 * gradient[4 * rank : 4 * rank + 4], of_parameters
            found_here = found['every loss'][name]
            torch.testing.assert_close(found_here, expected, rtol=1e-9, atol=1e-12, msg=lambda text, n=name: n + text)


def gather_on_a_rank(rank, world_size):
    raw = torch.full((2, 1), float(rank + 1), requires_grad=True)
    rows = gather_rows(Rows.of_batch(raw, torch.tensor([rank, 9]), torch.tensor([10 * rank, 10 * rank + 1])))
    (rows.embeddings[:, 0] * torch.tensor([1.0, 2, 3, 4])).sum().backward()
    return rows.embeddings.detach(), rows.labels, rows.views, rows.indices, raw.grad


def test_gathered_rows_are_the_same_on_all_ranks_in_rank_order_with_views_of_the_global_batch(of_two_ranks):
    for rank, found in enumerate(of_two_ranks):
        rows, labels, views, indices, gradient = found['gather']
        assert rows.flatten().tolist() == [1, 1, 2, 2]
        assert labels.tolist() == [0, 9, 1, 9]
        assert views.flatten().tolist() == [0, 1, 2, 3]
        assert indices.tolist() == [0, 1, 10, 11]
        # The sum over both ranks' losses, which DistributedDataParallel averages again.
        assert gradient.flatten().tolist() == [[2, 4], [6, 8]][rank]


def works():
    """Name -> function of rank and number of ranks, and its further arguments."""
    global_losses = {
        f'{loss} {chunk_size}': (global_loss_on_a_rank, loss, chunk_size) for loss, chunk_size in GLOBAL_LOSSES
    }
    return {**global_losses, 'every loss': (every_loss_on_a_rank,), 'gather': (gather_on_a_rank,)}


def launch(script, *args):
    env = dict(os.environ, PORT=str(free_port()), OMP_NUM_THREADS='1', PYTHONPATH=osp.join(REPO, 'tests'))
    env['PATH'] = osp.dirname(sys.executable) + os.pathsep + env['PATH']
    done = subprocess.run(
        ['bash', osp.join(REPO, 'tools', script), *map(str, args)], env=env, cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope='module')
def two_ranks(pictures, tmp_path_factory):
    """Three epochs through tools/dist_train.sh CONFIG 2, and its work dir."""
    work_dir = tmp_path_factory.mktemp('two_ranks')
    cfg = tiny_config(
        pictures,
        work_dir,
        train_cfg__max_epochs=3,
        custom_imports=dict(imports=['recording'], allow_failed_imports=False),
        custom_hooks=[dict(type='RecordHook')],
        default_hooks__checkpoint__max_keep_ckpts=-1,
        log_level='INFO',
    )
    config = work_dir / 'config.py'
    cfg.dump(str(config))
    log = launch('dist_train.sh', config, 2)
    return work_dir, config, log


def test_dist_train_runs_on_two_cpu_processes_and_ends_in_scores(two_ranks):
    assert 'Recall@1' in two_ranks[2]
    # 36 pictures in global batches of 12, and some once more, are 4 updates an epoch.
    assert two_ranks[2].count('Done: 12 updates') == two_ranks[2].count('Done: ') == 1
    assert (two_ranks[0] / 'epoch_3.pth').exists()


def test_ranks_see_different_images_in_every_step_and_one_global_loss(two_ranks):
    left, right = (torch.load(two_ranks[0] / f'rank_{rank}.pth') for rank in range(2))
    assert len(left['steps']) == len(right['steps']) > 0
    for a, b in zip(left['steps'], right['steps'], strict=True):
        assert len(a['indices']) == len(b['indices']) == 6
        assert not set(a['indices']) & set(b['indices'])
        assert a['loss'] == pytest.approx(b['loss'], rel=1e-5)


def test_statistics_and_weights_are_equal_on_both_ranks(two_ranks):
    left, right = (torch.load(two_ranks[0] / f'rank_{rank}.pth') for rank in range(2))
    assert left['state']['iaa']['count'].sum() == 36  # every picture once, no padding
    for key, value in left['state']['iaa'].items():
        if key == 'scales':
            continue  # of learners; there are none
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(right['state']['iaa'][key])), key
    assert all(torch.equal(value, right['weights'][key]) for key, value in left['weights'].items())


def test_a_run_on_two_ranks_resumes_bit_equal(two_ranks, tmp_path):
    work_dir, config, _ = two_ranks
    launch('dist_train.sh', config, 2, '--work-dir', tmp_path, '--resume', work_dir / 'epoch_1.pth')
    whole, again = (torch.load(path / 'epoch_3.pth', weights_only=False) for path in (work_dir, tmp_path))
    assert all(torch.equal(value, again['state_dict'][key]) for key, value in whole['state_dict'].items())


def test_dist_test_scores_and_writes_what_one_process_does(two_ranks, tmp_path):
    work_dir, config, training = two_ranks
    checkpoint = work_dir / 'epoch_3.pth'
    arguments = (config, checkpoint, '--work-dir', tmp_path, '--out')
    both = launch('dist_test.sh', *arguments[:2], 2, *arguments[2:], tmp_path / 'two.npz')
    done = subprocess.run(
        [sys.executable, osp.join(REPO, 'tools', 'test.py'), *arguments, tmp_path / 'one.npz'],
        env=dict(os.environ, PYTHONPATH=osp.join(REPO, 'tests')),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

    def scores(text):
        return re.findall(r'Done: (.*) \(36 images, training classes\)', text)

    assert len(scores(both)) == 1 and scores(both) == scores(done.stdout + done.stderr) and 'MAP@R' in scores(both)[0]
    # ... and as the monitor said at the end of training, on two ranks.
    assert scores(both)[0].split('Recall@8')[0] in training
    assert both.count('wrote 36 embeddings') == 1
    one, two = np.load(tmp_path / 'one.npz'), np.load(tmp_path / 'two.npz')
    assert sorted(one) == sorted(two) == ['class_names', 'embeddings', 'labels', 'model_hash', 'paths', 'roles']
    np.testing.assert_allclose(one['embeddings'], two['embeddings'], atol=1e-6)
    for name in ('class_names', 'labels', 'model_hash', 'paths', 'roles'):
        np.testing.assert_array_equal(one[name], two[name])
