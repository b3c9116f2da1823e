"""Divide and conquer in two processes (gloo) against one."""

import hashlib
import os.path as osp

import pytest
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmpretrain.structures import DataSample
from ranks import run_group
from tiny import tiny_config, train
from torch.nn.parallel import DistributedDataParallel

from mmdml.cli.launch import start_processes
from mmdml.dist import on_main_process
from mmdml.engine.model_of import model_of
from mmdml.models import ImageEmbedder
from mmdml.registry import HOOKS
from mmdml.structures import Progress, StepContext

EPOCHS = 4
NECKS = {'slices': dict(), 'masks': dict(division='masks')}
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])


def division_of(runner):
    (hook,) = (hook for hook in runner.hooks if type(hook).__name__ == 'DivisionHook')
    return hook


def parts_of(model):
    """The parameters of each learner: of slices the layers, of masks the rows."""
    learners = model.neck.learners
    if hasattr(learners, 'slices'):
        parts = [torch.cat([parameter.flatten() for parameter in layer.parameters()]) for layer in learners.slices]
    else:
        parts = list(learners.masks)
    return [part.detach().clone() for part in parts]


def digest(*tensors):
    """One hash of tensors, bit by bit."""
    return hashlib.sha256(b''.join(tensor.detach().contiguous().numpy().tobytes() for tensor in tensors)).hexdigest()


@HOOKS.register_module()
class RankDiary(Hook):
    """What a rank drew, divided and moved."""

    priority = 'LOWEST'

    def __init__(self):
        self.epochs, self.steps = [], []

    def before_train_epoch(self, runner):
        model, division = model_of(runner), division_of(runner)
        partition = getattr(model.neck.learners, 'partition', None)
        self.epochs.append(
            dict(
                clusters=division.clusters.clone(),
                assignment=division.assignment.clone(),
                drawn_from=digest(torch.from_numpy(runner.train_dataloader.sampler.assignment)),
                active=model.neck.num_active,
                sizes=partition.sizes,
                model=digest(*model.state_dict().values()),
            )
        )

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.before = parts_of(model_of(runner))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        model = model_of(runner)
        pairs = enumerate(zip(self.before, parts_of(model), strict=True))
        self.steps.append(
            dict(
                indices=[sample.sample_idx for sample in data_batch['data_samples']],
                learner=model.step.learner_index,
                moved=[part for part, (old, new) in pairs if not torch.equal(old, new)],
                loss=outputs['loss'].item(),
                model=digest(*model.parameters()),
            )
        )


@HOOKS.register_module()
class KnownClusters(Hook):
    """Start with the clusters that another run ended an epoch with."""

    priority = 'VERY_HIGH'

    def __init__(self, clusters):
        self.clusters = torch.tensor(clusters)

    def before_train(self, runner):
        division_of(runner).load_run_state(dict(clusters=self.clusters, assignment=self.clusters))


def config(pictures, work_dir, neck, epochs=EPOCHS, hooks=()):
    """Three learners in the divide stage, clusters anew in every epoch; Adam with a weight decay that shows."""
    cfg = tiny_config(
        pictures,
        work_dir,
        config='multi_similarity/ms_conv4_omniglot.py',
        train_cfg__max_epochs=epochs,
        default_hooks__checkpoint__max_keep_ckpts=-1,
        model__freeze_bn_stats=True,
        optim_wrapper__optimizer__weight_decay=0.1,
        find_unused_parameters=True,
    )
    cfg.custom_hooks = [
        dict(type='DivisionHook', divide_until=EPOCHS, interval=1, seed=5),
        dict(type='RankDiary'),
        *hooks,
    ]
    cfg.model.neck = dict(type='DivideAndConquerEmbedding', in_channels=8, embed_dim=6, num_learners=3, **NECKS[neck])
    cfg.model.head.update(type='DivideAndConquerHead')
    cfg.train_dataloader.batch_size = 4
    cfg.train_dataloader.sampler = dict(
        type='ClusterPKSampler', batch_size=4, images_per_class=2, cluster_order='round_robin'
    )
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    return cfg


def diary_of(runner):
    (diary,) = (hook for hook in runner.hooks if isinstance(hook, RankDiary))
    return dict(epochs=diary.epochs, steps=diary.steps)


def model_with(neck):
    torch.manual_seed(0)
    model = ImageEmbedder(
        backbone=dict(type='Conv4', channels=6),
        # In slices of two dimensions rows lie so close that rounding turns the direction of their gradient.
        neck=dict(type='DivideAndConquerEmbedding', in_channels=6, embed_dim=24, num_learners=3, **NECKS[neck]),
        head=dict(
            type='DivideAndConquerHead',
            loss=dict(type='MarginLoss'),
            # Draws at random, the same on all ranks.
            miner=dict(type='DistanceWeightedMiner'),
        ),
        freeze_bn_stats=True,  # batch statistics would differ between a half and a whole batch
    ).train()
    model.neck.divide(3)
    return model


def global_batch():
    torch.manual_seed(1)
    return torch.randn(8, 1, 28, 28), [DataSample().set_gt_label(int(label)) for label in LABELS]


def loss_and_gradients(wrapped, model, learner, part=slice(None)):
    progress = Progress(3, 10, 5, seed=1, rank=get_rank(), world_size=get_world_size())
    model.step = StepContext(progress, None if learner is None else model.neck.active(learner))
    model.zero_grad()
    inputs, samples = global_batch()
    value = sum(wrapped(inputs[part], samples[part], mode='loss').values())
    value.backward()
    return value.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def train_on_a_rank(cfg):
    cfg.launcher = 'pytorch'
    start_processes(cfg)
    return train(cfg)


def work_of_a_rank(rank, world_size, pictures, out):
    for neck in NECKS:
        runner = train_on_a_rank(config(pictures, osp.join(out, neck), neck))
        torch.save(diary_of(runner), osp.join(out, neck, f'rank_{rank}.pth'))

        model = model_with(neck)
        wrapped = DistributedDataParallel(model, find_unused_parameters=True)
        part = slice(4 * rank, 4 * rank + 4)
        found = [loss_and_gradients(wrapped, model, learner, part) for learner in (1, None, 2)]
        torch.save(found, osp.join(out, neck, f'gradients_{rank}.pth'))

    cfg = config(pictures, osp.join(out, 'refused'), 'slices')
    cfg.find_unused_parameters = False
    with pytest.raises(ValueError, match='needs find_unused_parameters=True'):
        train_on_a_rank(cfg)
    torch.save(True, osp.join(out, f'refused_{rank}.pth'))

    with pytest.raises(ValueError) as error:
        on_main_process(fail)
    torch.save(str(error.value), osp.join(out, f'failed_{rank}.pth'))


def fail():
    raise ValueError('these vectors cannot be divided')


@pytest.fixture(scope='module')
def two_ranks(pictures, tmp_path_factory):
    """The folder in which both ranks left what they did."""
    out = tmp_path_factory.mktemp('two_ranks')
    run_group(work_of_a_rank, pictures, str(out))
    return out


def records(two_ranks, neck, name='rank'):
    return [torch.load(two_ranks / neck / f'{name}_{rank}.pth') for rank in range(2)]


each_neck = pytest.mark.parametrize('neck', NECKS)


@each_neck
def test_ranks_hold_identical_clusters_partition_number_of_learners_and_weights(two_ranks, neck):
    left, right = records(two_ranks, neck)
    assert len(left['epochs']) == len(right['epochs']) == EPOCHS
    for a, b in zip(left['epochs'], right['epochs'], strict=True):
        assert digest(a['clusters']) == digest(b['clusters'])
        assert digest(a['assignment']) == digest(b['assignment'])
        for key in ('drawn_from', 'active', 'sizes', 'model'):
            assert a[key] == b[key], key
        assert a['drawn_from'] == digest(a['assignment'])
        assert a['active'] == 3 and a['clusters'].unique().tolist() == [0, 1, 2]
    for a, b in zip(left['steps'], right['steps'], strict=True):
        assert a['model'] == b['model'] and a['loss'] == pytest.approx(b['loss'], rel=1e-5)


@each_neck
def test_both_ranks_draw_from_the_cluster_of_the_learner_that_both_train(two_ranks, neck):
    left, right = records(two_ranks, neck)
    length = len(left['steps']) // EPOCHS
    assert length == len(right['steps']) // EPOCHS == 36 // 8
    for number, (a, b) in enumerate(zip(left['steps'], right['steps'], strict=True)):
        assignment = left['epochs'][number // length]['assignment']
        assert a['learner'] == b['learner'] and len(a['indices']) == len(b['indices']) == 4
        assert set(assignment[a['indices'] + b['indices']].tolist()) == {a['learner']}
    assert {step['learner'] for step in left['steps']} == {0, 1, 2}


def test_idle_slices_are_bit_equal_after_a_step_of_adam_with_weight_decay(two_ranks):
    for record in records(two_ranks, 'slices'):
        seen = set()
        for step in record['steps']:
            assert step['moved'] == [step['learner']]
            # Once they have moments, slices would drift on if their gradient were zero instead of None.
            seen.add(step['learner'])
        assert seen == {0, 1, 2}


@each_neck
def test_one_process_with_the_same_weights_finds_the_same_clusters(two_ranks, pictures, tmp_path, neck):
    epochs = records(two_ranks, neck)[0]['epochs']
    for number in (0, 2):
        cfg = config(pictures, tmp_path / str(number), neck, epochs=1)
        if number:
            cfg.load_from = str(two_ranks / neck / f'epoch_{number}.pth')
            cfg.custom_hooks.append(dict(type='KnownClusters', clusters=epochs[number - 1]['clusters'].tolist()))
        alone = diary_of(train(cfg))['epochs'][0]
        assert alone['model'] == epochs[number]['model']
        assert torch.equal(alone['clusters'], epochs[number]['clusters'])
        assert torch.equal(alone['assignment'], epochs[number]['assignment'])


@each_neck
def test_gathered_loss_and_gradient_of_a_learner_equal_one_process_on_the_global_batch(two_ranks, neck):
    model = model_with(neck)
    ranks = records(two_ranks, neck, 'gradients')
    for number, learner in enumerate((1, None, 2)):
        value, gradients = loss_and_gradients(model, model, learner)
        assert value > 0 and gradients['backbone.blocks.0.weight'].abs().sum() > 0
        for ranks_value, ranks_gradients in (rank[number] for rank in ranks):
            torch.testing.assert_close(ranks_value, value)
            for name, gradient in gradients.items():
                assert (ranks_gradients[name] is None) == (gradient is None), name
                if gradient is not None:
                    torch.testing.assert_close(ranks_gradients[name], gradient, rtol=1e-4, atol=1e-6)
        idle = [name for name, gradient in gradients.items() if gradient is None]
        assert len(idle) == (4 if neck == 'slices' and learner is not None else neck == 'masks' and learner is None)


def test_a_distributed_run_that_waits_for_every_learner_is_refused(two_ranks):
    for rank in range(2):
        assert torch.load(two_ranks / f'refused_{rank}.pth')


def test_a_division_that_fails_on_the_main_process_stops_both(two_ranks):
    messages = [torch.load(two_ranks / f'failed_{rank}.pth') for rank in range(2)]
    assert messages == ['these vectors cannot be divided'] * 2
