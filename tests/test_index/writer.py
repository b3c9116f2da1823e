"""Writes numbered rows to a store and says which are there for good; ends itself by SIGKILL at a named moment.

Run as ``writer.py FOLDER TOTAL BATCH [MOMENT TIMES]``. The next run adds what is missing.
"""

import os
import signal
import sys

import numpy as np

from mmdml.index import Item, LocalStore

DIMENSIONS = 16


def vectors_of(numbers):
    """Unit vectors ``(N, 16)`` that depend on the numbers alone."""
    rows = np.stack([np.random.default_rng(number).standard_normal(DIMENSIONS) for number in numbers])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def path_of(number):
    return f'folder/{number:06d}.jpg'


def item_of(number):
    return Item(path_of(number), f'class {number % 3}', size=number, content_hash=f'{number:x}')


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(moment, times, store):
    """Arrange the kill; the calls go through until then."""
    left = times
    pwrite, fsync = os.pwrite, os.fsync

    def due():
        nonlocal left
        left -= 1
        return left == 0

    def pwrite_until(file, data, at):
        if moment == 'before writing' and due():
            kill()
        if moment == 'half written' and due():
            pwrite(file, data[: len(data) // 2 + 1], at)
            kill()
        return pwrite(file, data, at)

    def fsync_until(file):
        if moment == 'written, not on the disk' and due():
            kill()
        fsync(file)

    def statement(text):
        if moment == 'rows half inserted' and text.startswith('INSERT INTO rows') and due():
            kill()
        if moment == 'before the commit' and text == 'COMMIT' and due():
            kill()

    os.pwrite, os.fsync = pwrite_until, fsync_until
    store._catalog._database.set_trace_callback(statement)


def main(folder, total, batch, moment='', times='1'):
    with LocalStore.open(folder, DIMENSIONS, 'model', write=True) as store:
        if moment:
            kill_at(moment, int(times), store)
        there = {row.item.path for row in store.rows()}
        missing = [number for number in range(int(total)) if path_of(number) not in there]
        print('open', flush=True)
        for start in range(0, len(missing), int(batch)):
            numbers = missing[start : start + int(batch)]
            store.add(vectors_of(numbers), [item_of(number) for number in numbers])
            print(*numbers, flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
