"""The local store when things go wrong: kills, full disks, files that were cut or exchanged."""

import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import writer

from mmdml.index import Item, LocalStore
from mmdml.index.exact_search import exact_neighbors

MOMENTS = ['before writing', 'half written', 'written, not on the disk', 'rows half inserted', 'before the commit']


def start(folder, *arguments):
    command = [sys.executable, writer.__file__, folder, *arguments]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)


def numbers_in(lines):
    return [int(each) for line in lines for each in line.split() if line.endswith('\n') and each != 'open']


def assert_holds(folder, numbers):
    """The store opens, and each of these rows is found by its vector, with its item."""
    with LocalStore.open(folder, write=False) as store:
        store.verify()
        assert store.count() >= len(numbers)
        if numbers:
            ids = store.search(writer.vectors_of(numbers), k=1).ids[:, 0]
            assert [row.item for row in store.get(ids)] == [writer.item_of(each) for each in numbers]


@pytest.mark.parametrize('moment', MOMENTS)
def test_a_kill_at_any_moment_of_an_add_loses_nothing_that_was_acknowledged(tmp_path, moment):
    times = 17 if moment == 'rows half inserted' else 3  # in the third batch of 7
    killed = start(tmp_path / 'store', 40, 7, moment, times)
    lines = killed.stdout.readlines()
    assert killed.wait() == -9
    assert numbers_in(lines) == list(range(14))
    assert_holds(tmp_path / 'store', list(range(14)))
    completed = start(tmp_path / 'store', 40, 7)
    assert numbers_in(completed.stdout.readlines()) == list(range(14, 40)) and completed.wait() == 0
    assert_holds(tmp_path / 'store', list(range(40)))
    assert (tmp_path / 'store/vectors.f32').stat().st_size == 64 + 40 * 4 * writer.DIMENSIONS


def test_kills_after_random_times_lose_nothing_and_the_next_runs_complete_the_store(tmp_path):
    random, acknowledged = np.random.default_rng(0), []
    for _ in range(5):
        killed = start(tmp_path / 'store', 5000, 3)
        assert killed.stdout.readline() == 'open\n'
        time.sleep(random.uniform(0, 0.05))
        killed.kill()
        acknowledged += numbers_in(killed.stdout.readlines())
        killed.wait()
        assert_holds(tmp_path / 'store', acknowledged)
    completed = start(tmp_path / 'store', len(acknowledged) + 50, 50)
    completed.communicate()
    assert completed.returncode == 0
    assert_holds(tmp_path / 'store', list(range(len(acknowledged) + 50)))


def test_a_kill_while_the_store_is_made_leaves_one_that_can_be_made(tmp_path):
    folder = tmp_path / 'store'
    LocalStore.open(folder, 16, 'model', write=True).close()
    (folder / 'store.db').unlink()  # the catalog comes last
    with pytest.raises(FileNotFoundError, match='there is no store'):
        LocalStore.open(folder)
    with LocalStore.open(folder, 16, 'model', write=True) as store:
        store.add(writer.vectors_of([0]), [writer.item_of(0)])


@pytest.fixture
def filled(tmp_path):
    folder = tmp_path / 'store'
    with LocalStore.open(folder, writer.DIMENSIONS, 'model', write=True) as store:
        store.add(writer.vectors_of(range(20)), [writer.item_of(number) for number in range(20)])
    return folder


def cut(folder):
    with open(folder / 'vectors.f32', 'r+b') as file:
        file.truncate(64 + 19 * 4 * writer.DIMENSIONS + 5)


def exchange(folder):
    with LocalStore.open(folder.parent / 'other', writer.DIMENSIONS, 'model', write=True) as store:
        store.add(writer.vectors_of(range(30)), [writer.item_of(number) for number in range(30)])
    shutil.copy(folder.parent / 'other/vectors.f32', folder)


def flip(folder):
    data = bytearray((folder / 'vectors.f32').read_bytes())
    data[-7] ^= 1
    (folder / 'vectors.f32').write_bytes(data)


DAMAGES = [
    (cut, 'was cut: it holds 19 of 20 vectors'),
    (exchange, 'belongs to another store'),
    (flip, 'was changed or exchanged: vector 19 is not the one that was added'),
    (lambda folder: (folder / 'vectors.f32').write_bytes(b'x' * 5000), 'is no file of vectors'),
    (lambda folder: (folder / 'vectors.f32').unlink(), 'is missing'),
    (lambda folder: (folder / 'store.db').write_bytes(b'x' * 5000), 'is no catalog of a store'),
    (lambda folder: (folder / 'store.db').unlink(), 'holds other files and no store.db, e.g. vectors.f32'),
]


@pytest.mark.parametrize(('damage', 'message'), DAMAGES, ids=[message[:20] for _, message in DAMAGES])
def test_a_store_whose_files_were_cut_or_exchanged_is_refused_in_words_and_left_as_it_is(filled, damage, message):
    damage(filled)
    before = {file.name: file.read_bytes() for file in filled.iterdir() if file.name != 'lock'}
    if (filled / 'store.db').exists():
        with pytest.raises(ValueError, match=message):
            LocalStore.open(filled)
    with pytest.raises(ValueError, match=message):
        LocalStore.open(filled, writer.DIMENSIONS, 'model', write=True)
    assert {name: (filled / name).read_bytes() for name in before} == before


def test_a_folder_with_other_files_does_not_become_a_store(tmp_path):
    (tmp_path / 'letter.txt').write_text('dear')
    with pytest.raises(ValueError, match=r'other files and no store.db, e.g. letter.txt'):
        LocalStore.open(tmp_path, 16, 'model', write=True)
    assert [path.name for path in tmp_path.iterdir()] == ['letter.txt']


@contextmanager
def files_limited_to(size):
    """Writing further than this into any file fails, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_refused_with_the_store_whole(filled):
    with LocalStore.open(filled, write=True) as store:
        size = (filled / 'vectors.f32').stat().st_size
        with files_limited_to(size + 100), pytest.raises(OSError, match='store is as before; make room on the disk'):
            store.add(writer.vectors_of(range(20, 30)), [writer.item_of(number) for number in range(20, 30)])
        assert store.count() == 20 and (filled / 'vectors.f32').stat().st_size == size
        # The vectors fit, their rows do not.
        long = [Item(f'{number}' * 2000) for number in range(20)]
        with files_limited_to(size + 20 * 4 * writer.DIMENSIONS + 1000):
            with pytest.raises(OSError, match='nothing was changed, the store is as before'):
                store.add(writer.vectors_of(range(20)), long)
            with pytest.raises(OSError, match='the store is as before'):
                store.delete([1])
        assert store.count() == 20 and (filled / 'vectors.f32').stat().st_size == size
        store.add(writer.vectors_of(range(20, 30)), [writer.item_of(number) for number in range(20, 30)])
        store.delete([29])
        with files_limited_to(1000), pytest.raises(OSError, match='the store is as before; make room on the disk'):
            store.compact()
        assert [path.name for path in filled.glob('*.f32')] == ['vectors.f32']
    assert_holds(filled, list(range(29)))


def test_a_compaction_frees_space_keeps_ids_and_leaves_readers_and_later_rows_right(filled):
    query, folder = writer.vectors_of([3]), filled
    with LocalStore.open(folder, write=True) as store, LocalStore.open(folder) as reader:
        found = reader.search(query, k=15)
        store.delete([0, 7, 18, 19])
        store.add(writer.vectors_of([5]), [writer.item_of(5)])  # replaces 5 by 20
        size = (folder / 'vectors.f32').stat().st_size
        assert store.compact() == 5 and store.compact() == 0
        assert [path.name for path in folder.glob('*.f32')] == ['vectors-1.f32']
        assert (folder / 'vectors-1.f32').stat().st_size == size - 5 * 4 * writer.DIMENSIONS
        live = [id for id in range(1, 21) if id not in (5, 7, 18, 19)]
        for each in (store, reader):
            assert [row.id for row in each.rows()] == live and each.count() == 16
            np.testing.assert_array_equal(each.vectors([20, 17, 1]), writer.vectors_of([5, 17, 1]))
            again = each.search(query, k=15)
            kept = [id for id in found.ids[0] if id in live]
            assert [id for id in again.ids[0] if id in kept] == kept
        new = store.add(writer.vectors_of([19]), [writer.item_of(19)])
        assert new.tolist() == [21] and reader.search(writer.vectors_of([19]), k=1).ids.tolist() == [[21]]
    assert_holds(folder, [number for number in range(20) if number not in (0, 7, 18)])


def test_a_compaction_that_ends_anywhere_leaves_the_store_as_before(filled, monkeypatch):
    with LocalStore.open(filled, write=True) as store:
        store.delete([2])
        for name in ('mmdml.index.vector_file.VectorFile.flush', 'mmdml.index.catalog.Catalog.compact'):
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(name, lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
                store.compact()
            assert store.count() == 19 and [path.name for path in filled.glob('*.f32')] == ['vectors.f32']
            store.verify()
    (filled / 'vectors-1.f32').write_bytes(b'left by a kill')
    LocalStore.open(filled, write=True).close()
    assert [path.name for path in filled.glob('*.f32')] == ['vectors.f32']


def test_nothing_in_a_store_is_pickled_and_it_opens_in_a_folder_of_any_name(filled):
    folder = filled.parent / 'what? #1%20\udce9'
    filled.rename(folder)
    assert_holds(folder, list(range(20)))
    assert {file.name for file in Path(folder).iterdir()} <= {
        'store.db',
        'store.db-wal',
        'store.db-shm',
        'vectors.f32',
        'lock',
    }
    assert (folder / 'vectors.f32').read_bytes()[64:] == writer.vectors_of(range(20)).tobytes()


def test_threads_of_a_reader_search_beside_a_writer_and_find_whole_batches(filled):
    query, counts, problems, done = writer.vectors_of([3]), [], [], threading.Event()
    with LocalStore.open(filled, write=True) as store, LocalStore.open(filled) as reader:

        def search():
            try:
                while not done.is_set():
                    found = reader.search(query, k=1000).ids[0]
                    counts.append((found >= 0).sum())
                    assert found[0] == 3
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=search) for _ in range(2)]
        for thread in threads:
            thread.start()
        for first in range(20, 220, 10):
            numbers = range(first, first + 10)
            store.add(writer.vectors_of(numbers), [writer.item_of(number) for number in numbers])
        done.set()
        for thread in threads:
            thread.join()
    assert problems == [] and counts and all(count % 10 == 0 for count in counts)


@pytest.mark.parametrize('k', [1, 5, 40])
def test_a_search_in_blocks_equals_a_full_sort_also_with_ties_across_blocks(monkeypatch, k):
    monkeypatch.setattr('mmdml.index.exact_search._BLOCK', 64)
    random = np.random.default_rng(0)
    # Small whole numbers: scores are exact, and many are equal.
    gallery, queries = (random.integers(-2, 3, (number, 4)).astype(np.float32) for number in (200, 9))
    rows = np.flatnonzero(random.random(200) < 0.7)
    found = exact_neighbors(queries, gallery, rows, k)
    scores = queries @ gallery[rows].T
    order = np.argsort(-scores, axis=1, kind='stable')[:, :k]
    np.testing.assert_array_equal(found.ids, rows[order])
    np.testing.assert_array_equal(found.scores, np.take_along_axis(scores, order, 1))


def test_the_store_loads_no_torch():
    code = 'import sys, mmdml.index; assert "torch" not in sys.modules and "mmengine" not in sys.modules'
    subprocess.run([sys.executable, '-c', code], check=True)


def test_a_reader_that_cannot_write_beside_the_database_sees_what_is_committed_later(filled):
    code = f"""
import os, tempfile, writer
from mmdml.index import LocalStore
query = writer.vectors_of([25])
# All modules are imported while the packages can be read.
with tempfile.TemporaryDirectory() as place, LocalStore.open(place, writer.DIMENSIONS, 'model', write=True) as store:
    store.add(query, [writer.item_of(25)])
    store.search(query, k=1), list(store.rows())
if os.getuid() == 0:  # whom no folder refuses
    os.setuid(65534)
with LocalStore.open({str(filled)!r}) as store:
    while True:
        print(store.count(), store.search(query, k=1).ids[0, 0], len(list(store.rows())), flush=True)
        input()
"""
    filled.chmod(0o555)
    for folder in filled.parents[:-2]:  # of pytest, for its user only
        folder.chmod(folder.stat().st_mode | 0o055)
    environment = os.environ | dict(PYTHONPATH=os.pathsep.join(sys.path))
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, '-c', code], env=environment, **pipes) as reader:

        def seen():
            reader.stdin.write('\n')
            reader.stdin.flush()
            return [int(each) for each in reader.stdout.readline().split()]

        count, nearest, rows = map(int, reader.stdout.readline().split())
        assert count == rows == 20 and nearest != 25
        filled.chmod(0o755)
        with LocalStore.open(filled, write=True) as store:
            store.add(writer.vectors_of(range(20, 30)), [writer.item_of(number) for number in range(20, 30)])
        assert seen() == [30, 25, 30]  # the writer has come and gone
        with LocalStore.open(filled, write=True) as store:
            store.delete(range(10))
            assert seen() == [20, 25, 20]  # it is still there
            store.delete([29])
            store.compact()
        assert seen() == [19, 25, 19]
        reader.kill()


def test_a_store_that_the_disk_has_no_room_for_is_refused_and_nothing_is_left(tmp_path):
    with files_limited_to(5000), pytest.raises(OSError, match=r'store\.db cannot be made: .*; is the disk full'):
        LocalStore.open(tmp_path / 'store', 16, 'model', write=True)
    assert sorted(path.name for path in (tmp_path / 'store').iterdir()) == ['lock', 'vectors.f32']
    LocalStore.open(tmp_path / 'store', 16, 'model', write=True).close()
