"""Recipes with values set: edited where they are assigned, whole in what they inherit, and with effect."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from mmengine.config import Config
from tiny import REPO

from mmdml.cli.launch import read_config
from mmdml.cli.main import main
from mmdml.cli.recipe_file import require_effect, same_but_values, with_values

FROZEN = "_base_ = ['mmdml::recommended/frozen_backbone.py']\n"


@pytest.fixture
def written(tmp_path):
    """Writes the texts of a recipe with values set into a folder and reads it."""

    def write(recipe, values):
        folder = tmp_path / 'run'
        folder.mkdir()
        for name, text in with_values(recipe, values).items():
            (folder / name).write_text(text)
        return Config.fromfile(folder / 'recipe.py')

    return write


def test_a_recipe_keeps_its_place_before_a_base_of_its_name(tmp_path, written):
    copy = tmp_path / 'copy'
    copy.mkdir()
    (copy / 'recipe.py').write_text("_base_ = ['frozen_backbone.py']\nlr = 1e-3\n")
    (copy / 'frozen_backbone.py').write_text(FROZEN + 'epochs = 7\ntrain_cfg = dict(max_epochs=epochs)\n')
    (copy / 'mine.py').write_text(
        "_base_ = ['recipe.py']\noptim_wrapper = dict(optimizer=dict(type='SGD', momentum=0.5))\n"
    )
    texts = with_values(copy / 'mine.py', dict(epochs=3))
    assert list(texts) == ['recipe.py', 'recipe_1.py', 'frozen_backbone.py', 'frozen_backbone_1.py']
    config = written(copy / 'mine.py', dict(epochs=3))
    assert config.optim_wrapper.optimizer.type == 'SGD' and config.lr == 1e-3
    assert config.train_cfg.max_epochs == 3 and config.train_dataloader.batch_size == 64
    assert same_but_values(copy / 'mine.py', tmp_path / 'run/recipe.py', ['epochs'])


@pytest.mark.parametrize('odd', ['# a\x0cb', '# a\u2028b', '# a\x85b', "name = 'é'"])
def test_a_value_is_set_where_it_stands_whatever_the_lines_before_hold(tmp_path, written, odd):
    recipe = tmp_path / 'mine.py'
    recipe.write_text(f"{odd}\nword = 'é'; epochs = (20); lr = 3e-4  # of Adam\nlast = epochs\n", encoding='utf-8')
    config = written(recipe, dict(epochs=1))
    assert (config.epochs, config.lr, config.last) == (1, 3e-4, 1)
    assert with_values(recipe, dict(epochs=1))['recipe.py'].splitlines()[-2].endswith('lr = 3e-4  # of Adam')


def test_a_value_that_reaches_nothing_is_refused(tmp_path):
    recipe = tmp_path / 'mine.py'
    recipe.write_text(FROZEN + 'lr = 1e-3\nlr = 1e-4\n')
    with pytest.raises(ValueError, match=r'mine.py: lr = 0.5 has no effect, as lr is 0.0001 all the same'):
        require_effect(recipe, dict(lr=0.5), {})
    recipe.write_text(FROZEN + 'train_cfg = dict(max_epochs=7)\n')
    with pytest.raises(ValueError, match=r'mine.py: epochs = 1 has no effect, as train_cfg.max_epochs is 7'):
        require_effect(recipe, dict(epochs=1), dict(epochs='train_cfg.max_epochs'))
    require_effect(recipe, dict(epochs=1), {})


def test_every_recommended_recipe_takes_the_options_of_the_command(pictures):
    from mmdml.cli.folder_training import _REACHED

    values = dict(batch_size=8, epochs=3, lr=0.5, seed=4)
    for recipe in Path(REPO, 'configs/recommended').glob('*.py'):
        require_effect(recipe, values, _REACHED)


def test_an_option_without_effect_ends_before_pictures_are_read_and_leaves_no_run(pictures, start, tmp_path):
    recipe = tmp_path / 'mine.py'
    recipe.write_text(FROZEN + 'train_cfg = dict(max_epochs=7)\n')
    train = ['train', pictures, '--model', start, '--recipe', recipe, '--out', tmp_path / 'run', '--epochs', 1]
    done = CliRunner().invoke(main, list(map(str, train)))
    assert done.exit_code == 1 and 'epochs = 1 has no effect, as train_cfg.max_epochs is 7' in done.stderr
    recipe.write_bytes('# -*- coding: latin-1 -*-\n# é\n'.encode('latin-1'))
    done = CliRunner().invoke(main, list(map(str, train)))
    assert done.exit_code == 1 and f'{recipe}, line 2 is not UTF-8' in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ['mine.py']


def test_a_recipe_with_a_byte_order_mark_is_one_without(tmp_path):
    recipe = tmp_path / 'mine.py'
    recipe.write_text(FROZEN + 'lr = 1e-3\n', encoding='utf-8-sig')
    require_effect(recipe, dict(lr=0.5), dict(lr='optim_wrapper.optimizer.lr'))
    assert read_config(str(recipe), {}).lr == 1e-3


def test_a_base_in_another_folder_is_named(tmp_path):
    recipe = tmp_path / 'mine.py'
    recipe.write_text("# mine\n_base_ = ['../common/base.py']\n")
    with pytest.raises(ValueError, match=r"mine.py, line 2: _base_ '../common/base.py' lies in another folder"):
        with_values(recipe, {})
    recipe.write_text('_base_ = [1]\n')
    with pytest.raises(ValueError, match=r'mine.py, line 1: _base_ must be a list of paths, got \[1\]'):
        with_values(recipe, {})
