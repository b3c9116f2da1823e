"""What tests of commands begin with."""

import pytest
from tiny import tiny_config


@pytest.fixture(scope='session')
def start(pictures, tmp_path_factory):
    """Name of a small model that was not trained."""
    path = tmp_path_factory.mktemp('start') / 'tiny.py'
    tiny_config(pictures, path.parent).dump(str(path))
    return f'{path}:untrained'
