"""How commands end: expected errors and interruptions in a line, others with their traceback."""

import os
import signal
import subprocess
import sys
import time

import pytest
from mmengine.config import Config
from tiny import REPO, tiny_config

from mmdml.cli.config_paths import watch_config
from mmdml.cli.errors import describe, is_expected
from mmdml.registry import MODELS


def caught(function):
    with pytest.raises(Exception) as error:
        function()
    return error.value


def build(**neck):
    config = Config(dict(model=dict(neck=dict(type='LinearEmbedding', in_channels=3, **neck), heads=[dict(type='A')])))
    watch_config(config)
    return caught(lambda: MODELS.build(config.model.neck))


def test_an_error_of_a_part_carries_the_path_of_its_entry():
    error = build(embed_dim=2, dropout=2.0)
    assert is_expected(error) and describe(error).startswith('model.neck: dropout ')
    assert describe(build()).startswith('model.neck: ') and 'embed_dim' in describe(build())


def test_errors_of_code_are_not_taken_for_wrong_settings():
    assert not is_expected(caught(lambda: {}['x']))
    assert not is_expected(caught(lambda: int('x')))
    assert is_expected(caught(lambda: open('/nowhere')))
    assert describe(caught(lambda: open('/nowhere'))) == 'there is no file or folder /nowhere'


def test_the_traceback_of_a_loader_worker_is_left_out():
    message = (
        'Caught UnreadableImageError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
        '  File "a.py", line 1, in b\n    c()\nmmdml.datasets.base.UnreadableImageError: cannot read x.png\n'
    )
    assert describe(ValueError(message)) == 'cannot read x.png'


def command(code, *flags, **options):
    program = f'import sys\nfrom mmdml.cli.errors import run_command\ndef main():\n    {code}\nrun_command(main)\n'
    return subprocess.run([sys.executable, '-c', program, *flags], capture_output=True, text=True, **options)


def test_a_reader_that_leaves_early_ends_the_command_without_a_word():
    program = "import click\nfrom mmdml.cli.errors import run_command\ninput()\nrun_command(lambda: click.echo('x'))"
    pipes = dict.fromkeys(('stdin', 'stdout', 'stderr'), subprocess.PIPE)
    with subprocess.Popen([sys.executable, '-c', program], **pipes) as process:
        process.stdout.close()
        process.stdin.write(b'\n')
        process.stdin.close()
        assert process.stderr.read() == b'' and process.wait() == 141


@pytest.mark.parametrize(
    'code, flags, status, lines',
    [
        ("open('/nowhere')", (), 1, ['error: there is no file or folder /nowhere']),
        ("raise ValueError('--amp needs CUDA')", (), 1, ['error: --amp needs CUDA']),
        ('raise KeyboardInterrupt', (), 130, ['', 'interrupted']),
        ('import os; os.kill(os.getpid(), 15)', (), 143, ['', 'interrupted']),
        ('pass', (), 0, []),
    ],
    ids=['missing file', 'wrong flag', 'Ctrl-C', 'SIGTERM', 'success'],
)
def test_status_and_message(code, flags, status, lines):
    done = command(code, *flags)
    assert done.returncode == status and done.stderr.splitlines() == lines


def test_tracebacks_of_other_errors_and_of_all_with_debug():
    done = command('1 / 0')
    assert done.returncode == 1 and 'Traceback' in done.stderr and 'ZeroDivisionError' in done.stderr
    done = command("open('/nowhere')", '--debug')
    assert done.returncode == 1 and 'Traceback' in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_says_how_to_go_on(number, pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path / 'run', train_cfg__max_epochs=3000, log_level='INFO')
    cfg.dump(str(tmp_path / 'tiny.py'))
    arguments = [sys.executable, os.path.join(REPO, 'tools/train.py'), str(tmp_path / 'tiny.py'), '--no-validate']
    running = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        time.sleep(0.2)
        if list((tmp_path / 'run').glob('epoch_*.pth')) or running.poll() is not None:
            break
    running.send_signal(number)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 128 + number, errors
    (line,) = errors.split('\n')[1:-1]
    assert line.startswith('interrupted after update ') and line.endswith(f'{tmp_path}/tiny.py --no-validate --resume')
