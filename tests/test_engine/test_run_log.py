"""What the logger 'mmdml' is told during a run is in the log file of that run."""

import logging

import pytest
from mmengine.hooks import Hook
from tiny import tiny_config, train

from mmdml.registry import HOOKS

PLAIN = 'multi_similarity/ms_conv4_omniglot.py'


@HOOKS.register_module()
class SpeakHook(Hook):
    """Says something as the evaluation functions do."""

    def __init__(self, text):
        self.text = text

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        logger = logging.getLogger('mmdml')
        logger.warning('%s: warning %d', self.text, runner.iter % 2)
        logger.info('%s: %d of 7 done', self.text, runner.iter + 1)


@pytest.fixture(autouse=True)
def level():
    logger = logging.getLogger('mmdml')
    before = logger.level
    yield
    logger.setLevel(before)


def lines(pictures, folder, text, log_level):
    options = dict(train_cfg__max_epochs=1, log_level=log_level, custom_hooks=[dict(type='SpeakHook', text=text)])
    cfg = tiny_config(pictures, folder, config=PLAIN, **options)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    train(cfg)
    return [line for path in folder.glob('*/*.log') for line in path.read_text().splitlines() if 'mmdml' in line]


def test_warnings_and_progress_land_in_the_log_file_of_their_own_run(pictures, tmp_path):
    first = lines(pictures, tmp_path / 'first', 'first', 'INFO')
    second = lines(pictures, tmp_path / 'second', 'second', 'WARNING')
    # MMEngine shows equal warnings once.
    assert [line for line in first if 'first: warning 0' in line and 'WARNING' in line]
    assert [line for line in first if 'first: warning 1' in line and 'WARNING' in line]
    assert sum('of 7 done' in line for line in first) == 7
    assert any('second: warning 1' in line for line in second)
    # The level of the run holds, and a run that is over hears no more.
    assert not any('of 7 done' in line for line in second)
    logging.getLogger('mmdml').warning('third: after all')
    texts = [path.read_text() for path in sorted(tmp_path.glob('*/*/*.log'))]
    assert len(texts) == 2 and 'second:' not in texts[0] and 'third:' not in texts[0] + texts[1]
