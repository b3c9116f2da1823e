import argparse

import pytest
from mmengine.config import Config

from mmdml.cli.launch import add_common_arguments, check_keys


@pytest.mark.parametrize('key, right', [('optim_wraper', 'optim_wrapper'), ('train_dataloder', 'train_dataloader')])
def test_a_nearly_spelled_key_of_a_config_is_refused_with_the_right_one(key, right):
    with pytest.raises(ValueError, match=f"unknown config key '{key}'; did you mean '{right}'"):
        check_keys(Config({key: dict()}), {})


def test_an_option_must_name_a_key_that_is_there():
    cfg = Config(dict(model=dict(), batch_size=4))
    check_keys(cfg, {'model.head.new': 1, 'randomness.seed': 3})
    with pytest.raises(ValueError, match=r"--cfg-options: unknown config key 'modle'; did you mean 'model'"):
        check_keys(cfg, {'modle.head.new': 1})


def test_a_variable_that_was_already_substituted_is_refused_as_an_option():
    with pytest.raises(ValueError, match="'batch_size' is a variable of the config file.*train_dataloader.batch_size"):
        check_keys(Config(dict(batch_size=4)), {'batch_size': 8})


def test_variables_of_a_config_are_no_typing_errors():
    check_keys(Config(dict(train_pipeline=[], test_pipeline=[], data_root='x', iaa=dict())), {})


@pytest.mark.parametrize(
    'setting', ['a.b', '=1', 'a=[(1,2]', "a=[dict(type='FeatureNoise',std=0.1)]", 'a=dict(type=X)', "a={'b': 1}"]
)
def test_a_setting_that_would_be_read_as_something_else_is_refused(setting, capsys):
    parser = argparse.ArgumentParser()
    add_common_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', 'a=1', setting])
    assert f'{setting!r} cannot be read: settings are KEY=VALUE' in capsys.readouterr().err
    read = parser.parse_args(['--cfg-options', 'a=[(1,2),x]', 'b=None', 'c=k=v', 'd=a/b{1}']).cfg_options
    assert read == {'a': [(1, 2), 'x'], 'b': None, 'c': 'k=v', 'd': 'a/b{1}'}
