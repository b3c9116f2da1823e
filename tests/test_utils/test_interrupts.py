import signal
import threading

import pytest

from mmdml.utils.interrupts import interrupts_wait


class Terminated(BaseException):
    pass


def _terminate(number, frame):
    raise Terminated


@pytest.fixture
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)
    yield {number: signal.getsignal(number) for number in before}
    for number, handler in before.items():
        signal.signal(number, handler)


def handlers_now():
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


@pytest.mark.parametrize('number, raised', [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_the_first_acts_at_the_end(handlers, number, raised):
    steps = []
    with pytest.raises(raised):
        with interrupts_wait():
            signal.raise_signal(number)
            steps.append('went on')
        steps.append('not reached')
    assert steps == ['went on'] and handlers_now() == handlers


@pytest.mark.parametrize('second', [signal.SIGINT, signal.SIGTERM])
def test_the_second_acts_at_once(handlers, second):
    steps = []
    with pytest.raises((KeyboardInterrupt, Terminated)), interrupts_wait():
        signal.raise_signal(signal.SIGINT)
        steps.append('first')
        signal.raise_signal(second)
        steps.append('not reached')
    assert steps == ['first'] and handlers_now() == handlers


def test_one_that_is_caught_inside_still_acts_at_the_end(handlers):
    steps = []
    with pytest.raises(KeyboardInterrupt), interrupts_wait():
        signal.raise_signal(signal.SIGINT)
        try:
            signal.raise_signal(signal.SIGTERM)
        except Terminated:
            steps.append('caught')
        steps.append('went on')
    assert steps == ['caught', 'went on'] and handlers_now() == handlers


def test_an_error_inside_gives_the_handlers_back(handlers):
    with pytest.raises(OSError, match='full'), interrupts_wait():
        raise OSError('full')
    assert handlers_now() == handlers


def test_ignored_signals_and_other_threads_are_left_alone(handlers):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts_wait():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.raise_signal(signal.SIGINT)
    found = []

    def inside():
        with interrupts_wait():
            found.append(handlers_now())

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [handlers_now()]
