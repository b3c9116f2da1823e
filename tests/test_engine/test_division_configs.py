"""The D&C configs keep the values that their READMEs and the papers name."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from tiny import REPO

from mmdml.engine.division import Stages, num_clusters_at
from mmdml.registry import HOOKS, MODELS

FOLDER = Path(REPO, 'configs/divide_and_conquer')
IAA_DC = Path(REPO, 'configs/iaa/iaa_dc-k4-warmup_margin_conv4_omniglot.py')
BASELINE = FOLDER / 'dc-k1_margin_conv4_omniglot.py'
DIVIDED = sorted(path for path in [*FOLDER.glob('*.py'), IAA_DC] if '-k1_' not in path.stem)
DATA_SETS = ('cub', 'cars', 'sop', 'inshop', 'vehicleid')
LEARNERS = {
    'dc': dict(cub=4, cars=4, sop=8, inshop=8, vehicleid=8),
    'dcplus': dict(cub=4, cars=4, sop=32, inshop=32, vehicleid=32),
}
OMNIGLOT = [path for path in DIVIDED if path.stem.endswith('omniglot')]


def load(name, data='conv4_omniglot'):
    """A config of the folder by the parts of its name before and after the loss."""
    return Config.fromfile(FOLDER / f'{name}_margin_{data}.py')


def division_of(cfg):
    (hook,) = cfg.custom_hooks
    return HOOKS.build(hook)


def diversity_of(cfg):
    """Weight of the diversity term, None without."""
    regularizers = cfg.model.head.get('regularizers', {})
    return regularizers['diversity'].weight if regularizers else None


@pytest.mark.parametrize('path', DIVIDED, ids=lambda path: path.stem)
def test_the_number_of_learners_stands_in_the_neck_alone(path):
    cfg = Config.fromfile(path)
    assert cfg.model.neck.num_learners > 1 and 'num_learners' not in cfg.model.head
    assert 'num_clusters' not in cfg.custom_hooks[0] and division_of(cfg)
    assert (cfg.model.neck.type, cfg.model.head.type) == ('DivideAndConquerEmbedding', 'DivideAndConquerHead')
    assert cfg.train_dataloader.sampler.type == 'ClusterPKSampler' and cfg.find_unused_parameters


@pytest.mark.parametrize('path', DIVIDED, ids=lambda path: path.stem)
def test_all_learners_are_in_use_before_the_divide_stage_ends_and_it_ends_within_the_run(path):
    cfg = Config.fromfile(path)
    division = division_of(cfg)
    stages = division.stages
    assert stages.at(stages.warm_up) == 'divide' and stages.divide_until < cfg.train_cfg.max_epochs
    if division.hierarchical:
        learners = cfg.model.neck.num_learners
        assert num_clusters_at(stages.divide_until - 1 - stages.warm_up, learners, division.interval) == learners


@pytest.mark.parametrize('path', OMNIGLOT, ids=lambda path: path.stem)
def test_runs_on_omniglot_differ_from_the_baseline_in_the_division_alone(path):
    cfg, baseline = Config.fromfile(path), Config.fromfile(BASELINE)
    for part in ('train_dataloader', 'val_dataloader', 'train_cfg', 'param_scheduler'):
        assert cfg[part] == baseline[part], part
    assert cfg.optim_wrapper.optimizer == baseline.optim_wrapper.optimizer
    assert cfg.model.backbone == baseline.model.backbone
    assert (cfg.model.head.loss, cfg.model.head.miner) == (baseline.model.head.loss, baseline.model.head.miner)
    assert cfg.model.neck.embed_dim == baseline.model.neck.embed_dim == 128


def test_the_baseline_is_the_plain_layer_without_a_division():
    cfg = Config.fromfile(BASELINE)
    assert (cfg.model.neck.type, cfg.model.head.type) == ('LinearEmbedding', 'EmbeddingHead')
    assert 'custom_hooks' not in cfg
    assert cfg.train_dataloader.sampler == dict(type='ClusterPKSampler', batch_size=128, images_per_class=4)


@pytest.mark.parametrize('learners', [4, 8])
def test_slices_on_omniglot_have_the_cvpr_stages_and_the_warm_up_keeps_their_divide_stage(learners):
    configs = [load(f'dc-k{learners}{part}') for part in ('', '-warmup')]
    assert [cfg.model.neck.num_learners for cfg in configs] == [learners] * 2
    plain, warm = map(division_of, configs)
    assert plain.stages == Stages(0, 6, 14)
    assert warm.stages == Stages(5, 11, 14)
    assert plain.interval == warm.interval == 2 and not plain.hierarchical


def test_masks_on_omniglot_have_the_tpami_stages():
    learned, fixed, released = (load(f'dcplus-k8{part}') for part in ('', '-fixed', ''))
    released.merge_from_dict({'custom_hooks.0.matching': 'released'})
    for cfg in (learned, fixed, released):
        division = division_of(cfg)
        assert division.stages == Stages(0, 6) and division.hierarchical
        assert cfg.model.neck.num_learners == 8 and division.interval == 1 and cfg.model.neck.division == 'masks'
    assert [cfg.model.neck.learned for cfg in (learned, fixed, released)] == [True, False, True]
    assert [diversity_of(cfg) for cfg in (learned, fixed, released)] == [0.01, None, 0.01]
    matchings = [division_of(cfg).divider.matching for cfg in (learned, fixed, released)]
    assert matchings == ['overlap', 'overlap', 'released']


def test_learned_masks_learn_faster_than_the_rest():
    cfg = load('dcplus-k8')
    model = MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    rates = {id(parameter): group['lr'] for group in optimizer.param_groups for parameter in group['params']}
    fast = {name for name, parameter in model.named_parameters() if rates[id(parameter)] == pytest.approx(1e-2)}
    slow = {name for name, parameter in model.named_parameters() if rates[id(parameter)] == pytest.approx(1e-3)}
    assert fast == {'neck.learners.masks'} and len(fast | slow) == len(rates)
    assert load('dcplus-k4', 'r50_cub').optim_wrapper.paramwise_cfg.custom_keys.masks.lr_mult == 100


def test_the_cvpr_preset_for_cub():
    cfg = load('dc-k4', 'r50_cub')
    assert cfg.model.neck == dict(
        type='DivideAndConquerEmbedding', in_channels=2048, embed_dim=128, num_learners=4, dropout=0.01
    )
    assert cfg.optim_wrapper == dict(optimizer=dict(type='Adam', lr=1e-5, weight_decay=1e-4))
    assert 'param_scheduler' not in cfg and cfg.train_cfg.max_epochs == 200
    assert division_of(cfg).stages == Stages(0, 80, 190) and division_of(cfg).interval == 2
    assert cfg.train_dataloader.batch_size == cfg.train_dataloader.sampler.batch_size == 128
    assert cfg.train_dataloader.sampler.images_per_class == 4
    assert cfg.train_dataloader.dataset.pipeline[1].crop_ratio_range == (0.08, 1.0)
    assert cfg.model.pooling.type == 'GlobalAveragePooling' and cfg.model.freeze_bn_stats


def test_the_tpami_preset_for_cub():
    cfg = load('dcplus-k4', 'r50_cub')
    neck, division = cfg.model.neck, division_of(cfg)
    assert (neck.embed_dim, neck.num_learners, neck.division, neck.learned) == (512, 4, 'masks', True)
    assert cfg.optim_wrapper.optimizer == dict(type='Adam', lr=1e-5, weight_decay=1e-4)
    assert diversity_of(cfg) == 0.01 and cfg.train_cfg.max_epochs == 180
    assert division.stages == Stages(0, 80) and division.hierarchical and division.interval == 2


@pytest.mark.parametrize('data', DATA_SETS)
@pytest.mark.parametrize(
    ('method', 'variant', 'plain'),
    [('dc', '', 'dc-k1'), ('dcplus', '', 'dcplus-k1'), ('dcplus', '-fixed', 'dcplus-k1')],
    ids=['dc', 'dcplus', 'dcplus-fixed'],
)
def test_benchmark_configs_have_their_baseline_beside_them(method, variant, plain, data):
    learners = LEARNERS[method][data]
    cfg, baseline = load(f'{method}-k{learners}{variant}', f'r50_{data}'), load(plain, f'r50_{data}')
    for part in ('train_dataloader', 'val_dataloader', 'val_evaluator', 'train_cfg'):
        assert cfg[part] == baseline[part], part
    assert cfg.optim_wrapper.optimizer == baseline.optim_wrapper.optimizer
    assert (cfg.model.head.loss, cfg.model.head.miner) == (baseline.model.head.loss, baseline.model.head.miner)
    assert cfg.model.neck.embed_dim == baseline.model.neck.embed_dim == (128 if method == 'dc' else 512)
    assert baseline.model.neck.type == 'LinearEmbedding' and 'custom_hooks' not in baseline
    assert (cfg.model.neck.get('learned'), diversity_of(cfg)) == {
        'dc': (None, None),
        'dcplus': (True, 0.01),
        'dcplus-fixed': (False, None),
    }[method + variant]


@pytest.mark.parametrize(
    ('name', 'data', 'learners', 'batch'),
    [
        *(('dc', data, 8, (80, 4)) for data in ('sop', 'inshop', 'vehicleid')),
        *(('dc', data, 4, (128, 4)) for data in ('cub', 'cars')),
        ('dcplus', 'sop', 32, (80, 2)),
    ],
)
def test_learners_and_batches_are_those_of_paper_and_releases(name, data, learners, batch):
    cfg = load(f'{name}-k{learners}', f'r50_{data}')
    sampler = cfg.train_dataloader.sampler
    assert cfg.model.neck.num_learners == learners and cfg.train_dataloader.batch_size == batch[0]
    assert (sampler.batch_size, sampler.images_per_class) == batch


def test_divide_and_conquer_with_iaa_is_the_warmed_up_run_plus_iaa():
    joined, divided = Config.fromfile(IAA_DC), load('dc-k4-warmup')
    assert joined.model.head.sources.iaa == joined.iaa and joined.iaa.type == 'IAAGenerator'
    assert joined.custom_hooks == divided.custom_hooks and joined.model.neck == divided.model.neck
