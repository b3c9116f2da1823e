import os
from pathlib import Path

import pytest
from mmengine.config import Config

import mmdml  # noqa: F401  (makes the scope known to MMEngine)

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize('name', ['configs', 'tools', 'model-index.yml'])
def test_package_links_to_the_top_level_by_a_relative_path(name):
    link = ROOT / 'mmdml' / '.mim' / name
    assert os.readlink(link) == f'../../{name}'
    assert link.resolve() == ROOT / name and link.exists()


def test_config_elsewhere_inherits_from_the_checkout(tmp_path):
    (tmp_path / 'mine.py').write_text("_base_ = ['mmdml::iaa/iaa_ms_r50_cub.py']\nwork_dir = 'elsewhere'\n")
    mine = Config.fromfile(tmp_path / 'mine.py')
    assert mine.work_dir == 'elsewhere'
    # MMEngine marks inherited parts with their scope, which collate functions would get as an argument.
    assert '_scope_' not in mine.model
    assert mine.model == Config.fromfile(ROOT / 'configs' / 'iaa' / 'iaa_ms_r50_cub.py').model
