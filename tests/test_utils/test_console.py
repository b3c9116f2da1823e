import logging
import time

import mmdml.utils.console as console
from mmdml.utils.console import SignOfLife, duration


def test_durations():
    assert [duration(seconds) for seconds in (0.2, 59.4, 59.6, 3725)] == ['0 s', '59 s', '1 min 00 s', '1 h 02 min']


def test_lines_are_offered_often_and_shown_seldom():
    lines, made = [], []
    life = SignOfLife(every=1e9, display=lines.append)
    for step in range(5):
        life.offer(lambda step=step: made.append(step) or str(step))
    assert lines == [] and made == []
    life.every = 0.0
    life.offer(lambda: 'now')
    assert lines == ['now']


def test_silence_is_filled_where_somebody_waits(monkeypatch):
    lines = []
    monkeypatch.setattr(console, '_attended', False)
    life = SignOfLife(every=1e9, silence=0.04, display=lines.append)
    life.begin('sweeping')
    life.start()
    assert life._thread is None  # nobody waits
    monkeypatch.setattr(console, '_attended', True)
    life.start()
    for _ in range(500):
        if lines:
            break
        time.sleep(0.01)
    life.stop()
    assert lines[0].startswith('sweeping, for 0 s')


def test_a_shown_line_is_marked(caplog):
    from mmengine.logging import MMLogger

    logger = MMLogger.get_instance('test_console', log_level='INFO')
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger.handlers.append(handler)
    console.show('for the reader')
    assert [(record.msg, getattr(record, console.ON_CONSOLE)) for record in records] == [('for the reader', True)]
