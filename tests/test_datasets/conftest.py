import logging

import numpy as np
import pytest
from feature_rows import LABELS, features
from mmengine.logging import MMLogger


@pytest.fixture
def npz(tmp_path):
    """A file of features with their labels."""
    np.savez(tmp_path / 'some.npz', embeddings=features(), labels=LABELS)
    return str(tmp_path / 'some.npz')


@pytest.fixture
def notes():
    """Warnings in the log, as they come."""
    messages = []

    class Collect(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    handler = Collect(level=logging.WARNING)
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)
