"""The generated page of losses."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from tiny import REPO

from mmdml.models.losses import ContextualLoss, CosFaceLoss, TripletLoss

PLANS = ('features_losses_val', 'features_losses')


@pytest.fixture(scope='module')
def tool():
    return SimpleNamespace(**runpy.run_path(f'{REPO}/tools/misc/make_loss_page.py'))


def test_the_page_of_this_project_is_up_to_date(tool):
    assert tool.main(['--check']) == 0, 'run python tools/misc/make_loss_page.py'


def test_every_loss_has_a_section_with_options_and_a_config(tool):
    text = (Path(REPO) / tool.PAGE).read_text(encoding='utf-8')
    for loss in tool.losses():
        section = text.split(f'### {loss.__name__}\n')[1].split('\n### ')[0]
        assert f"type='{loss.__name__}'" in section and '- needs: ' in section and '- miners: ' in section
        assert ':math:' not in section and ':class:' not in section and '``' not in section.replace('```', '')


def test_every_loss_is_measured_on_features_at_rates_from_validation_classes(tool):
    names = {loss.__name__ for loss in tool.losses()}
    plans = [yaml.safe_load(Path(REPO, f'experiments/{plan}.yml').read_text(encoding='utf-8')) for plan in PLANS]
    for plan in plans:
        assert {item['options'].get('model.head.loss.type') for item in plan['items']} - {None} == names
    assert plans[0]['options']['val_dataloader.dataset.split'] == 'val'
    assert plans[0]['options']['val_dataloader.dataset.ann_file'] == 'train.npz'
    tables = yaml.safe_load(Path(REPO, 'experiments/tables.yml').read_text(encoding='utf-8'))['tables']
    labels = [row['label'] for row in tables['features-losses']['rows']]
    assert all(any(f'[{name}](' in label for label in labels) for name in names)


def test_formulas_options_and_miners_are_those_of_the_code(tool):
    assert tool.markdown(
        'One.\n\nWith :math:`a\nb` and ``x``:\n\n.. math:: a\n    + b\n\nMore.\n\nArgs:\n    a: b'
    ) == ('One.\n\nWith $a b$ and `x`:\n\n```math\na\n+ b\n```\n\nMore.')
    assert tool.options('One.\n\nArgs:\n    a: first\n        line.\n    b: second.\n\nRaises:\n    no') == [
        '- `a`: first line.',
        '- `b`: second.',
    ]
    assert tool.fitting_miners(TripletLoss) != tool.fitting_miners(ContextualLoss)
    assert tool.fitting_miners(CosFaceLoss).startswith('none') and tool.fitting_miners(ContextualLoss).startswith(
        'none'
    )
