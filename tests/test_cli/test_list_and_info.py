"""``mmdml list`` and ``mmdml info``: what a model needs and what it is, without a download."""

import json
import re

from click.testing import CliRunner

from mmdml import __version__
from mmdml.apis import list_models
from mmdml.apis.model_index import shipped_models
from mmdml.cli.main import main


def mmdml(*arguments):
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_models_are_listed_by_what_they_need():
    found = json.loads(mmdml('list', '--json'))
    assert list(found) == ['offline', 'downloaded', 'own_weights']
    names = [name for group in found.values() for name in group]
    assert found['offline'] == ['default', *shipped_models()] and 'ms_conv4_omniglot' in found['offline']
    assert set(list_models()) <= set(names) and 'timm/NAME' in found['downloaded']
    assert json.loads(mmdml('list', 'iaa_ms_*_cub', '--json'))['own_weights'] == list_models('iaa_ms_*_cub')
    none = CliRunner().invoke(main, ['list', 'iaa_nothing'])
    assert none.exit_code == 1 and "no model has a name like 'iaa_nothing'" in none.stderr
    text = mmdml('list').splitlines()
    assert text[0] == 'Work at once, offline:' and re.fullmatch(r'  default  .*: iaa_ms_mobilenet-v2_grocery', text[1])
    assert any(line.endswith("mmdml list '*' shows them all") for line in text)


def test_the_command_has_a_version_and_an_example():
    assert mmdml('--version') == f'mmdml, version {__version__}\n' and '  mmdml serve photos.store\n' in mmdml('--help')


def test_a_name_of_the_index_stands_for_its_config():
    for command in ('train', 'test'):
        assert 'config file, or a name of the model index' in mmdml(command, 'ms_conv4_omniglot', '--help')


def test_a_mistyped_command_is_named_with_the_one_that_may_be_meant():
    done = CliRunner().invoke(main, ['idnex', 'photos'])
    assert done.exit_code == 2 and "there is no command 'idnex'; did you mean 'index'?" in done.stderr


def test_models_of_timm_are_listed_by_a_pattern():
    found = json.loads(mmdml('list', 'timm/vit_small_patch14_dinov2*', '--json'))['downloaded']
    assert 'timm/vit_small_patch14_dinov2.lvd142m' in found


def test_info_shows_each_score_in_a_line_of_its_own():
    text = mmdml('info')
    assert re.search(r'^ +Recall@1 +\d', text, re.M) and '{' not in text


def test_info_names_layers_and_input_without_weights():
    facts = json.loads(mmdml('info', 'contrastive_conv4_omniglot', '--json'))
    assert facts['layers'] == 'Conv4 + GlobalAveragePooling + LinearEmbedding' and facts['dimensions'] == 128
    assert facts['weights'].startswith('none') and facts['kind'] == 'indexed'
    assert 'pretrained backbone' in mmdml('info', 'timm/test_vit') and 'CenterCrop 160' in mmdml(
        'info', 'timm/test_vit'
    )


def test_info_of_a_backbone_that_reads_its_rates_from_a_tensor(tmp_path):
    config = tmp_path / 'convnext.py'
    config.write_text(
        'model = dict(\n'
        "    type='mmdml.ImageEmbedder',\n"
        "    backbone=dict(type='mmpretrain.ConvNeXt', arch='atto'),\n"
        "    neck=dict(type='LinearEmbedding', in_channels=320, embed_dim=8))\n"
    )
    weights = tmp_path / 'convnext.pth'
    weights.touch()
    facts = json.loads(mmdml('info', f'{config}:{weights}', '--json'))
    assert facts['layers'] == 'ConvNeXt + GlobalAveragePooling + LinearEmbedding' and facts['parameters'] == '3,377,088'
