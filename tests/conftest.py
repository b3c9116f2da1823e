"""Tiny data and runs that many tests share."""

import gc
import os.path as osp
import signal
import sys

import cv2
import numpy as np
import pytest
import torch

import mmdml  # noqa: F401  (makes torchvision importable before any test imports it)

REPO = osp.dirname(osp.dirname(osp.abspath(__file__)))
sys.path.insert(0, osp.dirname(__file__))
# The modules beside the scripts of the results driver.
sys.path.insert(0, osp.join(REPO, 'tools', 'analysis_tools'))

torch.set_num_threads(1)
# Shells let what they start in the background ignore Ctrl-C, and so would the processes that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files of slow tests, or the last of them would keep one process busy and the others idle."""
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Leave what was imported out of collections: MMEngine collects for each data set that it serializes."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session')
def repo() -> str:
    """Root of the checkout."""
    return REPO


@pytest.fixture(scope='session')
def pictures(tmp_path_factory) -> str:
    """A folder of gray 28x28 pictures: 8 classes of 3 to 6, each class a blob at a place of its own, plus noise."""
    root = tmp_path_factory.mktemp('pictures')
    random = np.random.default_rng(0)
    for label in range(8):
        folder = root / f'class_{label}'
        folder.mkdir()
        for number in range(3 + label % 4):
            image = random.integers(0, 60, (28, 28), dtype=np.uint8)
            x, y = 4 + 6 * (label % 4), 8 + 10 * (label // 4)
            cv2.circle(image, (x, y), 3, 255, -1)
            cv2.imwrite(str(folder / f'{number}.png'), image)
    return str(root)
