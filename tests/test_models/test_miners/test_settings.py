"""Every registered miner refuses settings that are no numbers, which would mine nothing or everything."""

import inspect
import re

import pytest

import mmdml.models.miners
from mmdml.registry import TASK_UTILS

MINERS = [getattr(mmdml.models.miners, name) for name in mmdml.models.miners.__all__]
SETTINGS = [
    (miner.__name__, name)
    for miner in MINERS
    if inspect.isclass(miner)
    for name, parameter in inspect.signature(miner).parameters.items()
    if isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
]


@pytest.mark.parametrize('value', [float('nan'), '1'])
@pytest.mark.parametrize('miner, name', SETTINGS)
def test_a_setting_that_is_no_number_is_refused_by_name(miner, name, value):
    with pytest.raises(ValueError, match=re.escape(f'{name} must be a number, got {value!r}')):
        TASK_UTILS.build({'type': miner, name: value})
