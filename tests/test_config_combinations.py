"""Models, data sets, schedules and losses combine by a ``_base_`` list: those of configs/README.md, and some more."""

import re
from pathlib import Path

import pytest
from config_checks import assert_learns, assert_parts_exist_and_agree
from mmengine.config import Config
from tiny import REPO

README = (Path(REPO) / 'configs/README.md').read_text(encoding='utf-8')
DOCUMENTED = re.findall(r'```python\n(.*?)```', README, flags=re.DOTALL)

# Base model, data set, schedule, head.
COMBINATIONS = {
    'mobilenet_contrastive_cars': ('mobilenet-v2', 'cars', 'iaa_100e', "loss=dict(type='ContrastiveLoss')"),
    'efficientnet_n-pairs_inshop': ('efficientnet-lite0', 'inshop', 'iaa_100e_large', "loss=dict(type='NPairsLoss')"),
    'bninception_triplet_vehicleid': (
        'bninception',
        'vehicleid_256',
        'iaa_100e_large',
        "loss=dict(type='TripletLoss'), sources=dict(iaa=dict(type='IAAGenerator'))",
    ),
    'r50_proxy-nca_cub': (
        'r50',
        'cub_val',
        'iaa_100e',
        "loss=dict(type='ProxyNCALoss', num_classes=80, embed_dim=512)",
    ),
}


def read(text, folder):
    (folder / 'mine.py').write_text(text)
    return Config.fromfile(folder / 'mine.py')


def base_list(model, data, schedule, head):
    parts = (f'models/{model}', f'datasets/{data}', f'schedules/{schedule}', 'default_runtime')
    return f'_base_ = {[f"mmdml::_base_/{part}.py" for part in parts]}\nmodel = dict(head=dict({head}))\n'


def assert_runs(cfg):
    assert_parts_exist_and_agree(cfg)
    model = cfg.model.to_dict()
    model['backbone'].pop('init_cfg', None)
    if 'img_size' in model['backbone']:  # the check takes one step on small images
        model['backbone']['img_size'] = 64
    assert_learns(model)


def test_the_readme_documents_combinations():
    assert len(DOCUMENTED) == 3 and all('_base_' in text for text in DOCUMENTED)


@pytest.mark.parametrize('text', DOCUMENTED, ids=lambda text: re.search(r'\w+Loss', text)[0])
def test_every_combination_of_the_readme_runs(text, tmp_path):
    assert_runs(read(text, tmp_path))


@pytest.mark.parametrize('parts', COMBINATIONS.values(), ids=list(COMBINATIONS))
def test_other_combinations_run(parts, tmp_path):
    assert_runs(read(base_list(*parts), tmp_path))


@pytest.mark.parametrize('method', ['dc-k4', 'dcplus-k4'])
def test_divide_and_conquer_takes_other_losses(method, tmp_path):
    base = f'mmdml::divide_and_conquer/{method}_margin_r50_cub.py'
    loss = "dict(_delete_=True, type='NPairsLoss')"
    assert_runs(read(f'_base_ = {base!r}\nmodel = dict(head=dict(loss={loss}, miner=None))\n', tmp_path))
