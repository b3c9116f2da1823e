"""Weights that do not fit are refused at every door; known prefixes are taken off."""

import subprocess
import sys
import uuid

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import BaseModule
from mmengine.runner import Runner
from tiny import tiny_config
from torch import nn

from mmdml.apis import get_model
from mmdml.compat.load_weights import load_weights, loaded_weights
from mmdml.compat.weight_files import read_weights, weights_of
from mmdml.registry import MODELS

PLAIN = 'multi_similarity/ms_conv4_omniglot.py'
MODEL = dict(
    type='ImageEmbedder',
    backbone=dict(type='Conv4', channels=8),
    neck=dict(type='LinearEmbedding', in_channels=8, embed_dim=6),
    head=dict(type='EmbeddingHead', loss=dict(type='MultiSimilarityLoss')),
)


def state():
    torch.manual_seed(5)
    return MODELS.build(MODEL).state_dict()


#: Files that hold all weights in some known form.
FITTING = {
    'plain': lambda sd: sd,
    'under state_dict': lambda sd: {'state_dict': sd, 'meta': {}},
    'compiled': lambda sd: {'state_dict': {'_orig_mod.' + k: v for k, v in sd.items()}},
    'parallel': lambda sd: {'module.' + k: v for k, v in sd.items()},
    'parallel and compiled': lambda sd: {'state_dict': {'module._orig_mod.' + k: v for k, v in sd.items()}},
    'compiled backbone': lambda sd: {k.replace('backbone.', 'backbone._orig_mod.'): v for k, v in sd.items()},
    'under model': lambda sd: {'model': sd, 'epoch': 3},
    'prefix model': lambda sd: {'state_dict': {'model.' + k: v for k, v in sd.items()}},
    'one common prefix': lambda sd: {'state_dict': {'student.net.' + k: v for k, v in sd.items()}},
}
#: Files that leave a part of the embedding random.
MISFITS = {
    'no neck': (
        lambda sd: {k: v for k, v in sd.items() if not k.startswith('neck')},
        r'it lacks: 2 \(neck.linear.weight, neck.linear.bias\) of 26',
    ),
    'other names': (lambda sd: {f'{k}_': v for k, v in sd.items()}, r'it lacks: 22 \(backbone.blocks.0.weight'),
    'more': (lambda sd: {**sd, 'backbone.more': torch.ones(1)}, r'model lacks: 1 \(backbone.more\)'),
    'other shape': (
        lambda sd: {**sd, 'neck.linear.weight': torch.ones(6, 9)},
        r'another shape, e.g. neck.linear.weight: \[6, 9\] in the file, \[6, 8\] in the model',
    ),
    'no weights': (lambda sd: {'state_dict': {}, 'meta': {'epoch': 1}}, 'holds no weights'),
}


@pytest.fixture
def written(tmp_path):
    def write(form):
        path = tmp_path / 'weights.pth'
        torch.save(form(state()), path)
        return path

    return write


def runner(pictures, work_dir, **options):
    cfg = tiny_config(pictures, work_dir, config=PLAIN, train_cfg__max_epochs=1, **options)
    cfg.optim_wrapper.optimizer.lr = 0.0
    cfg.experiment_name = uuid.uuid4().hex
    return Runner.from_cfg(cfg)


def scored(pictures, work_dir, path):
    found = runner(pictures, work_dir, load_from=str(path))
    found.test()
    return found.model


def trained(pictures, work_dir, path):
    found = runner(pictures, work_dir, load_from=str(path))
    found.train()
    return found.model


def by_name(pictures, work_dir, path):
    return get_model('ms_conv4_omniglot', pretrained=path, backbone=dict(channels=8), neck=MODEL['neck'])


@pytest.mark.parametrize('form', FITTING.values(), ids=list(FITTING))
def test_known_forms_and_prefixes_load_in_full(form, written):
    model = MODELS.build(MODEL)
    load_weights(model, read_weights(str(written(form))))
    for key, value in state().items():
        assert torch.equal(model.state_dict()[key], value), key
    assert loaded_weights(model)[:2] == (22, 22)


@pytest.mark.parametrize('door', [scored, trained, by_name])
@pytest.mark.parametrize('kind', ['compiled', 'under model'])
def test_the_doors_load_them_as_well(door, kind, written, pictures, tmp_path):
    model = door(pictures, tmp_path / 'run', written(FITTING[kind]))
    for key, value in state().items():
        if key.startswith('neck') or key.endswith('.0.weight'):
            assert torch.equal(model.state_dict()[key], value), key


@pytest.mark.parametrize('door', [scored, trained, by_name])
@pytest.mark.parametrize('kind', ['no neck', 'no weights'])
def test_a_misfit_is_refused_at_every_door(door, kind, written, pictures, tmp_path):
    form, message = MISFITS[kind]
    path = written(form)
    with pytest.raises(ValueError, match=message) as refused:
        door(pictures, tmp_path / 'run', path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize('form, message', MISFITS.values(), ids=list(MISFITS))
def test_every_misfit_is_refused_with_counts_and_examples(form, message, written):
    with pytest.raises(ValueError, match=message):
        load_weights(MODELS.build(MODEL), read_weights(str(written(form))))


def test_partial_loading_loads_what_fits_and_logs_the_rest(written, pictures, tmp_path):
    path = written(
        lambda sd: {
            **MISFITS['no neck'][0](sd),
            'backbone.blocks.0.weight': torch.ones(1),
            'odd': sd['neck.linear.bias'],
        }
    )
    found = runner(pictures, tmp_path / 'run', load_from=f'partial:{path}', log_level='INFO')
    found.train()
    assert loaded_weights(found.model) == (19, 22, [str(path)])
    assert torch.equal(found.model.state_dict()['backbone.blocks.4.weight'].cpu(), state()['backbone.blocks.4.weight'])
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'left out: 2 (backbone.blocks.0.weight, odd)' in log
    with pytest.raises(ValueError, match='needs all its weights'):
        get_model('ms_conv4_omniglot', pretrained=f'partial:{path}')


def test_a_file_that_fits_nothing_is_refused_in_part_as_well(written):
    with pytest.raises(ValueError, match='does not fit'):
        load_weights(MODELS.build(MODEL), read_weights(f'partial:{written(lambda sd: {"x": torch.ones(1)})}'))


def test_weights_of_the_head_may_lack_or_differ(written):
    model = MODELS.build(
        {**MODEL, 'head': dict(type='EmbeddingHead', loss=dict(type='ProxyNCALoss', num_classes=3, embed_dim=6))}
    )
    proxies = model.head.loss_fn.proxies.detach().clone()
    for more in ({}, {'head.loss_fn.proxies': torch.zeros(5, 6)}):
        load_weights(model, weights_of({**state(), **more}, 'x.pth'))
        assert torch.equal(model.head.loss_fn.proxies, proxies)
    assert loaded_weights(model)[:2] == (22, 22)


def backbone(path, **init_cfg):
    config = dict(MODEL['backbone'], init_cfg=dict(type='Pretrained', checkpoint=str(path), **init_cfg))
    model = MODELS.build({**MODEL, 'backbone': config})
    model.init_weights()
    return model


def below_backbone(sd):
    return {k.removeprefix('backbone.'): v for k, v in sd.items() if k.startswith('backbone.')}


def test_a_backbone_loads_its_own_weights_and_leaves_a_classifier(written):
    model = backbone(written(lambda sd: {**below_backbone(sd), 'fc.weight': torch.ones(2, 3)}))
    assert torch.equal(model.backbone.blocks[0].weight, state()['backbone.blocks.0.weight'])
    assert loaded_weights(model)[:2] == (20, 22)
    model = backbone(written(FITTING['compiled']), prefix='backbone.')
    assert torch.equal(model.backbone.blocks[0].weight, state()['backbone.blocks.0.weight'])


@pytest.mark.parametrize(
    'form, message',
    [
        (lambda sd: {'conv1.weight': torch.ones(3)}, r'init_cfg.checkpoint=FILE .* model.backbone.init_cfg=None'),
        (lambda sd: {'blocks.0.weight': sd['backbone.blocks.0.weight']}, r'it lacks: 19 \(blocks.1.weight'),
        (lambda sd: {**below_backbone(sd), 'blocks.16.weight': torch.ones(1)}, r'model lacks: 1 \(blocks.16.weight\)'),
        (lambda sd: {**below_backbone(sd), 'blocks.0.weight': torch.ones(9, 1, 3, 3)}, r'\[9, 1, 3, 3\] in the file'),
        (lambda sd: sd, r"below 'backbone.': set init_cfg.prefix='backbone.'"),
    ],
    ids=['another network', 'in part', 'deeper', 'wider', 'a whole model'],
)
def test_weights_of_another_backbone_are_refused_with_the_remedy(form, message, written):
    with pytest.raises(ValueError, match=message):
        backbone(written(form))


def test_a_prefix_that_is_not_there_is_named(written):
    with pytest.raises(
        ValueError, match=r"no weights below the prefix 'trunk.'; it has those of \['backbone', 'neck'\]"
    ):
        backbone(written(lambda sd: sd), prefix='trunk')


def test_a_module_of_another_project_is_strict_as_well(written):
    class Part(BaseModule):
        def __init__(self, init_cfg):
            super().__init__(init_cfg)
            self.linear = nn.Linear(2, 3)

    path = written(lambda sd: {'linear.weight': torch.ones(3, 2)})
    with pytest.raises(ValueError, match=r'it lacks: 1 \(linear.bias\)'):
        Part(dict(type='Pretrained', checkpoint=str(path))).init_weights()


def test_the_runner_is_strict_where_mmengine_was_imported_first(written, pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path / 'run', config=PLAIN, load_from=str(written(MISFITS['no neck'][0])))
    cfg.dump(str(tmp_path / 'tiny.py'))
    code = (
        'from mmengine.runner import Runner\nfrom mmengine.config import Config\nimport mmdml\n'
        f'Runner.from_cfg(Config.fromfile({str(tmp_path / "tiny.py")!r})).test()\n'
    )
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    assert done.returncode == 1 and 'weights that it lacks: 2 (neck.linear.weight' in done.stderr


def test_averaged_weights_start_from_the_loaded_ones(written, pictures, tmp_path):
    options = dict(load_from=str(written(FITTING['compiled'])), custom_hooks=[dict(type='EMAHook')])
    found = runner(pictures, tmp_path / 'run', **options)
    found.train()
    average = next(hook for hook in found.hooks if isinstance(hook, EMAHook)).ema_model.module
    torch.testing.assert_close(average.state_dict()['neck.linear.weight'], state()['neck.linear.weight'])


def test_tables_that_a_module_computes_anew_do_not_lack():
    arch = dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2], extra_norm_every_n_blocks=0)
    swin = dict(type='mmpretrain.SwinTransformerV2', arch=arch, img_size=32, window_size=4, out_indices=(1,))
    given = MODELS.build(swin).state_dict()
    model = MODELS.build(swin)
    load_weights(model, weights_of({'state_dict': given}, 'swin.pth'))
    assert all(torch.equal(value, given[key]) for key, value in model.state_dict().items())
    given.popitem()
    with pytest.raises(ValueError, match=r'swin.pth does not fit .* weights that it lacks: 1 \('):
        load_weights(model, weights_of({'state_dict': given}, 'swin.pth'))
