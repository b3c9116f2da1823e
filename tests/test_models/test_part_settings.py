"""Every registered part refuses settings that are no numbers when it is built, by name and value."""

import inspect
import re

import pytest

import mmdml.models  # noqa: F401  (registers all parts)
from mmdml.cli.annotations import wanted_numbers
from mmdml.registry import MODELS, TASK_UTILS

# What parts need besides the setting under test.
NEEDED = dict(
    num_classes=3,
    embed_dim=4,
    in_channels=4,
    num_learners=2,
    size=2,
    loss=dict(type='TripletLoss'),
    neck=dict(type='IdentityEmbedding', in_channels=4),
    pooling=dict(type='GlobalAveragePooling'),
    backbone=dict(type='mmdml.Identity'),
)
# Proxies have their own names in some losses, and a message has the common one.
OTHER_NAMES = dict(sub_centers='proxies_per_class', centers_per_class='proxies_per_class')


def settings():
    parts = {part for registry in (MODELS, TASK_UTILS) for part in registry.module_dict.values()}
    for part in sorted(parts, key=lambda part: part.__name__):
        if not part.__module__.startswith('mmdml.models.') or not inspect.isclass(part):
            continue
        for name, taken in inspect.signature(part).parameters.items():
            if wanted_numbers('0.1', taken) == 'a number' and taken.annotation not in (bool, bool | None):
                yield pytest.param(part, name, id=f'{part.__name__}-{name}')


@pytest.mark.parametrize('value', [float('nan'), '0.1'])
@pytest.mark.parametrize(('part', 'name'), [*settings()])
def test_a_setting_that_is_no_number_is_refused_by_name_and_value(part, name, value):
    takes = inspect.signature(part).parameters.values()
    needed = {each.name: NEEDED[each.name] for each in takes if each.default is each.empty and each.name in NEEDED}
    shown = f'{OTHER_NAMES.get(name, name)} must be '
    with pytest.raises(ValueError, match=f'^{shown}.*, got {re.escape(repr(value))}$'):
        part(**{**needed, name: value})


def test_the_weight_of_a_regularizer_is_a_number():
    norm = dict(type='EmbeddingNorm', weight='0.1')
    with pytest.raises(ValueError, match=r"regularizers\.norm\.weight must be a number, got '0\.1'"):
        MODELS.build(dict(type='EmbeddingHead', loss=NEEDED['loss'], regularizers=dict(norm=norm)))


def test_counts_and_shares_out_of_range_end_when_a_part_is_built_not_in_its_first_step():
    with pytest.raises(ValueError, match=r'momentum must be None or in \[0, 1\], got 1\.5'):
        MODELS.build(dict(type='IAAGenerator', momentum=1.5))
    with pytest.raises(ValueError, match=r'num_samples must be an integer of at least 1, got 1\.5'):
        MODELS.build(dict(type='FlowPrior', num_classes=2, embed_dim=4, num_samples=1.5))
