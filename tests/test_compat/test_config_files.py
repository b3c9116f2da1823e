"""Configs mean the same wherever they are read."""

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from tiny import tiny_config

CONFIG = 'multi_similarity/ms_conv4_omniglot.py'


@pytest.fixture
def write(tmp_path):
    def write(**files):
        for name, text in files.items():
            (tmp_path / f'{name}.py').write_text(text)
        return Config.fromfile(str(tmp_path / f'{name}.py'))

    return write


def marks(value, mark):
    if isinstance(value, dict):
        return (mark in value) + sum(marks(inner, mark) for inner in value.values())
    return sum(marks(inner, mark) for inner in value) if isinstance(value, list | tuple) else 0


def test_an_inherited_config_runs_without_the_tools(write, pictures, tmp_path):
    values = tiny_config(pictures, tmp_path / 'run', config=CONFIG)
    parts = {key: values.to_dict()[key] for key in ('model', 'test_dataloader', 'work_dir', 'log_level')}
    parts['test_dataloader']['dataset']['_delete_'] = True
    cfg = write(
        mine=f"_base_ = ['mmdml::{CONFIG}']\n" + ''.join(f'{key} = {value!r}\n' for key, value in parts.items())
    )
    assert not marks(cfg.to_dict(), '_scope_')
    assert list(cfg.test_dataloader.collate_fn) == ['type']
    assert Runner.from_cfg(cfg).test()['retrieval/Recall@1'] > 0


def test_the_scope_stays_for_a_project_of_another_scope_but_not_for_functions(write):
    collate = "train_dataloader = dict(collate_fn=dict(type='pseudo_collate'))\n"
    base = "_base_ = ['mmdml::multi_similarity/ms_conv4_omniglot.py']\ndefault_scope = 'theirs'\n"
    cfg = write(middle=base, mine="_base_ = ['middle.py']\n" + collate).to_dict()
    assert cfg['model']['_scope_'] == 'mmdml'
    assert '_scope_' not in cfg['train_dataloader']['collate_fn']


def test_delete_works_where_nothing_is_inherited(write):
    base = "model = dict(head=dict(loss=dict(type='A', a=1)))\n"
    head = "miner=dict(_delete_=True, type='M'), loss=dict(_delete_=True, type='B')"
    mine = f"_base_ = ['base.py']\nmodel = dict(head=dict({head}))\n"
    cfg = write(base=base, mine=mine)
    assert cfg.model.to_dict() == dict(head=dict(loss=dict(type='B'), miner=dict(type='M')))
    cfg.merge_from_dict({'model.neck': dict(_delete_=True, type='N')})
    assert cfg.model.neck.to_dict() == dict(type='N')


def test_a_variable_of_the_base_may_be_edited_below(write):
    base = "iaa = dict(type='IAA', lam=1, sizes=[1])\nkept = dict(inner=dict(iaa=2))\n"
    mine = (
        "_base_ = ['base.py']\niaa = {{_base_.iaa}}\niaa['lam'] = 3\niaa.sizes.append(2)\n"
        'again = dict(x={{ _base_.iaa }}, y={{_base_.kept.inner.iaa}})\n'
    )
    cfg = write(base=base, mine=mine)
    assert cfg.iaa.to_dict() == dict(type='IAA', lam=3, sizes=[1, 2])
    assert cfg.again.to_dict() == dict(x=dict(type='IAA', lam=1, sizes=[1]), y=2)


def test_configs_that_inherit_each_other_are_refused_at_once(write):
    with pytest.raises(ValueError, match=r'in a circle: \S+two.py -> \S+one.py -> \S+two.py'):
        write(one="_base_ = ['two.py']\n", two="_base_ = ['one.py']\n")


@pytest.mark.parametrize('ending', ['py', 'yml', 'json'])
def test_a_config_and_its_bases_may_begin_with_a_byte_order_mark(tmp_path, ending):
    base = dict(py='lr = 1\nepochs = 2\n', yml='lr: 1\nepochs: 2\n', json='{"lr": 1, "epochs": 2}')[ending]
    (tmp_path / f'base.{ending}').write_text(base, encoding='utf-8-sig')
    mine = f"_base_ = ['base.{ending}']\nlr = {{{{_base_.epochs}}}}\nname = 'é'\n"
    (tmp_path / 'mine.py').write_text(mine, encoding='utf-8-sig')
    assert Config.fromfile(tmp_path / 'mine.py').to_dict() == dict(lr=2, epochs=2, name='é')
    again = Config.fromfile(tmp_path / 'mine.py', use_predefined_variables=False, use_environment_variables=False)
    assert again.lr == 2
