import errno
import os
import resource
import signal
import stat
import subprocess
import sys

import pytest

from mmdml.utils.files import prepare_output, remove_leftovers, replaced_when_whole, write_atomically

KILLED = """
import os, signal, sys
from mmdml.utils.files import write_atomically
with write_atomically(sys.argv[1], 'w') as file:
    file.write('half')
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def old(tmp_path):
    path = tmp_path / 'table.csv'
    path.write_text('old')
    return path


@pytest.fixture
def full_disk():
    """No file may grow beyond 64 bytes."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def killed_while_writing(path):
    assert subprocess.run([sys.executable, '-c', KILLED, path]).returncode == -signal.SIGKILL


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(old):
    with write_atomically(old, 'w', encoding='utf-8') as file:
        file.write('new ä')
        file.flush()
        assert old.read_text() == 'old'
    assert old.read_text(encoding='utf-8') == 'new ä' and names(old.parent) == ['table.csv']


def test_an_error_while_writing_leaves_the_old_file_and_nothing_beside_it(old):
    with pytest.raises(KeyError, match='label'), write_atomically(old, 'w') as file:
        file.write('half')
        raise KeyError('label')
    assert old.read_text() == 'old' and names(old.parent) == ['table.csv']


def test_a_full_disk_leaves_the_old_file_and_names_it(old, full_disk):
    with pytest.raises(OSError, match='table.csv') as error, write_atomically(old) as file:
        file.write(bytes(10_000))
    assert error.value.errno == errno.EFBIG
    assert old.read_text() == 'old' and names(old.parent) == ['table.csv']


def test_an_error_about_another_file_keeps_its_name(old, tmp_path):
    with pytest.raises(FileNotFoundError, match='elsewhere'), write_atomically(old, 'w'):
        open(tmp_path / 'elsewhere')


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere/a.csv'), write_atomically(tmp_path / 'nowhere' / 'a.csv'):
        pass


def test_a_kill_while_writing_leaves_the_old_file_and_the_next_writer_cleans_up(old):
    killed_while_writing(old)
    assert old.read_text() == 'old' and len(names(old.parent)) == 2
    with write_atomically(old, 'w') as file:
        file.write('new')
    assert old.read_text() == 'new' and names(old.parent) == ['table.csv']


def test_leftovers_are_those_of_processes_that_are_gone(old, tmp_path):
    killed_while_writing(old)
    (tmp_path / '.mine.tmp').write_text('of another program')
    with replaced_when_whole(tmp_path / 'alive.csv') as beside:
        beside.write_text('being written')
        assert len(remove_leftovers(tmp_path)) == 1
        assert beside.exists()
    assert names(tmp_path) == ['.mine.tmp', 'alive.csv', 'table.csv']


def test_a_link_stays_a_link(old, tmp_path):
    link = tmp_path / 'latest.csv'
    link.symlink_to(old)
    with write_atomically(link, 'w') as file:
        file.write('new')
    assert link.is_symlink() and old.read_text() == 'new' and os.path.samefile(link, old)


def test_a_pipe_is_neither_replaced_nor_taken_for_an_output(tmp_path):
    pipe, link = tmp_path / 'pipe.json', tmp_path / 'link.json'
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(FileExistsError, match=f'{path.name} is no regular file'):
            prepare_output(str(path))
        with pytest.raises(FileExistsError, match='pipe.json is no regular file'), write_atomically(path, 'w') as file:
            file.write('new')
    assert stat.S_ISFIFO(os.stat(pipe).st_mode) and names(tmp_path) == ['link.json', 'pipe.json']


def test_an_output_is_no_input_by_any_name(old, tmp_path):
    link = tmp_path / 'link.csv'
    link.symlink_to(old)
    with pytest.raises(ValueError, match='link.csv is a file that is read'):
        prepare_output(str(link), inputs=[str(tmp_path / 'nowhere'), str(old)])
    assert prepare_output(str(old), inputs=[str(tmp_path / 'nowhere')]) == str(old)
