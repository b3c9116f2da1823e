"""The results driver, with a script that stands in for training: it writes what MMEngine writes, and nothing more."""

import importlib.util
import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import DictAction
from results import append_row, estimate_seconds, read_rows
from run_folder import final_metrics, last_evaluation
from tiny import tiny_config

from experiments import Run, format_option, load_plan, train_arguments
from mmdml.utils.machine import available_cores, describe_machine

SCRIPT = Path(__file__).parents[2] / 'tools/analysis_tools/run_experiments.py'
spec = importlib.util.spec_from_file_location('run_experiments', SCRIPT)
driver = importlib.util.module_from_spec(spec)
spec.loader.exec_module(driver)

# Two epochs of five iterations. Seed 13 fails; `wait_for` makes the first attempt stop after epoch 1 and hang there.
TRAIN = """
import json, os, shutil, signal, sys, time
from pathlib import Path

arguments = sys.argv[1:]
work_dir = Path(arguments[arguments.index('--work-dir') + 1])
options = dict(each.split('=', 1) for each in arguments[arguments.index('--cfg-options') + 1:])
here = Path(__file__).parent
print('threads', os.environ['OMP_NUM_THREADS'], flush=True)
time.sleep(0.1)
if options['randomness.seed'] == '13':
    sys.exit('no luck')
first_epoch = 2 if '--resume' in arguments else 1
logs = work_dir / time.strftime('%Y%m%d_%H%M%S') / 'vis_data'
logs.mkdir(parents=True, exist_ok=True)
with open(logs / 'scalars.json', 'a') as log:
    for epoch in range(first_epoch, 3):
        print(json.dumps({'loss': 0.5, 'lr': 0.1, 'iter': 5 * epoch, 'epoch': epoch, 'step': 5 * epoch}), file=log)
        score = 10.0 * epoch + float(options['randomness.seed'])
        shutil.copy(here / f'epoch_{epoch}.pth', work_dir)
        (work_dir / 'last_checkpoint').write_text(f'epoch_{epoch}.pth')
        if options.get('no_evaluation') == str(epoch) and first_epoch == 1:
            os._exit(137)
        print(json.dumps({'retrieval/Recall@1': score, 'time': 0.1, 'step': epoch}), file=log)
        if 'hang' in options and first_epoch == 1:
            # Like a training that ends its workers first.
            signal.signal(signal.SIGTERM, lambda *_: (time.sleep(float(options['hang'])), os._exit(143)))
            (work_dir / 'pid').write_text(str(os.getpid()))
            time.sleep(60)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a config, a stand-in for tools/train.py and its checkpoints; the current folder of the test."""
    (tmp_path / 'train.py').write_text(TRAIN)
    (tmp_path / 'config.py').write_text(GOOD)
    for epoch in (1, 2):
        meta = {'epoch': epoch, 'iter': 5 * epoch}
        torch.save({'meta': meta, 'state_dict': {}}, tmp_path / f'epoch_{epoch}.pth')
    monkeypatch.chdir(tmp_path)
    return tmp_path


GOOD = 'train_cfg = dict(max_epochs=2)\ntrain_dataloader = dict(batch_size=4)\n'


def write_plan(folder, **item):
    plan = {
        'csv': 'results.csv',
        'work_root': 'runs',
        'items': [{'name': 'first', 'config': 'config.py', 'seeds': [0, 1], **item}],
    }
    (folder / 'plan.yml').write_text(yaml.safe_dump(plan))
    return folder / 'plan.yml'


def run_driver(*arguments):
    return driver.main(['plan.yml', '--train-script', 'train.py', *arguments])


def finished_row(run, **changes):
    values = {'updates': 100, 'seconds': 60.0, 'options': json.dumps(run.options), 'config_hash': 'x'}
    return {'run': run.id, 'name': run.name, 'config': run.config, 'seed': run.seed, **values, **changes}


def test_run_id_is_stable_and_ignores_name_and_option_order():
    run = Run('a', 'configs/x.py', 1, {'p': 1, 'q': 2})
    assert run.id == '71700d23be86'
    assert Run('other', 'configs/x.py', 1, {'q': 2, 'p': 1}).id == run.id
    assert len({run.id, Run('a', 'configs/y.py', 1, run.options).id, Run('a', 'configs/x.py', 2, run.options).id}) == 3


def test_plan_expands_the_matrix_and_item_options_override_defaults(project):
    path = write_plan(project, options={'a': 2}, matrix={'b': [3, 4]})
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, 'options': {'a': 1, 'c': 5}}))
    runs = load_plan(path).runs
    assert [(run.seed, run.options) for run in runs] == [
        (seed, {'a': 2, 'c': 5, 'b': value}) for value in (3, 4) for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    'item, message',
    [
        ({'sedes': [1]}, r"item first: unknown keys \['sedes'\]"),
        ({'seeds': [0, 0]}, 'listed twice'),
        ({'options': {'a': {'b': 1}}}, 'option a: .* cannot be written on the command line'),
        ({'matrix': {'a': ['1']}}, "option a: '1' cannot be written"),
        (
            {'seeds': 3},
            r'plan.yml: item first: seeds must be a list of whole numbers below 2\*\*32 such as \[0, 1, 2\], got 3',
        ),
        ({'seeds': ['0']}, r"seeds must be a list of whole numbers .*, got \['0'\]"),
        ({'seeds': [True]}, 'seeds must be a list of whole numbers'),
        ({'seeds': []}, 'seeds must be a list'),
        ({'matrix': 5}, r'matrix must be a mapping of option keys to lists of values, .*, got 5'),
        ({'matrix': {'a': 5}}, "matrix must be a mapping of option keys to lists of values, .*, got {'a': 5}"),
        ({'options': [1]}, r'options must be a mapping of names to values, got \[1\]'),
        ({'options': {'randomness.seed': 1}}, 'option randomness.seed: the seeds of an item stand under "seeds"'),
        ({'seeds': [2**32]}, r'seeds must be a list of whole numbers below 2\*\*32 .*, got \[4294967296\]'),
        ({'estimate_minutes': 'long'}, "estimate_minutes must be a finite number above 0, got 'long'"),
        ({'estimate_minutes': float('inf')}, 'estimate_minutes must be a finite number above 0, got inf'),
        ({'config': 7}, 'config must be a text, got 7'),
        ({'name': '../../outside'}, r"name must be letters, digits .* the name of a folder, got '../../outside'"),
        ({'name': '..'}, 'name must be letters'),
        ({'name': 'a/b'}, 'name must be letters'),
    ],
)
def test_plan_errors_name_item_and_key(project, item, message):
    with pytest.raises(ValueError, match=message):
        load_plan(write_plan(project, **item))


@pytest.mark.parametrize(
    'content, message',
    [
        (b'items: 5', 'plan.yml: items must be a list of at least one entry, got 5'),
        (b'items: [5]', r"item 0: must be a mapping with the keys \['config'.*\], got 5"),
        (b'5', r"plan.yml: must be a mapping with the keys \['csv', 'items', .*\], got 5"),
        (b'', 'plan.yml: must be a mapping .*, got None'),
        (b'items: [', 'plan.yml is no YAML: '),
        (b'items: [{name: a, name: b}]', "plan.yml is no YAML: the key 'name' stands twice .*line 1, column 19"),
        (b'items:\n- seeds: [010]', 'plan.yml is no YAML: 010 is no plain decimal number.*line 2, column 11'),
        (b'items: [1_1]', 'plan.yml is no YAML: 1_1 is no plain decimal number.*line 1, column 9'),
        (b'items: 1:30', 'plan.yml is no YAML: 1:30 is no plain decimal number.*line 1, column 8'),
        (b'items: 1:30.5', 'plan.yml is no YAML: 1:30.5 is no plain decimal number.*line 1, column 8'),
        (b'items: 0x_', 'plan.yml is no YAML: 0x_ is no plain decimal number.*line 1, column 8'),
        (b'items: 2026-02-30', 'plan.yml is no YAML: 2026-02-30: day is out of range.*line 1, column 8'),
        (b'items: ' + b'[' * 3000, 'plan.yml is no YAML that can be read: brackets are nested too deep'),
        (b'items: \xff', 'plan.yml, line 1 is not UTF-8'),
        (b'work_root: [a]\nitems: [5]', r"plan.yml: work_root must be a text, got \['a'\]"),
    ],
)
def test_a_faulty_plan_is_named_without_a_traceback(project, capsys, content, message):
    (project / 'plan.yml').write_bytes(content)
    assert run_driver() == 2
    assert re.match('error: .*' + message, capsys.readouterr().err)


def test_a_plan_whose_config_is_not_there_is_refused_before_anything_runs(project):
    with pytest.raises(FileNotFoundError, match='item first: there is no config nothing.py in '):
        load_plan(write_plan(project, config='nothing.py'))


@pytest.mark.parametrize(
    'config, item, message',
    [
        ('_base_ = [', {}, 'bad.py cannot be read with its options: SyntaxError: '),
        ("_base_ = ['nothing.py']", {}, 'bad.py cannot be read with its options: .*nothing.py'),
        ('train_cfg = nothing', {}, "bad.py cannot be read with its options: NameError: .*'nothing'"),
        (GOOD, {'train_dataloader.batch_size.x': 3}, 'bad.py cannot be read with its options: .*batch_size'),
        (GOOD, {'train_cfg.max_epochs': 'many'}, "bad.py: train_cfg.max_epochs must be a number, got 'many'"),
        ('model = dict()', {}, 'bad.py: train_cfg.max_epochs must be a number, got None'),
    ],
)
@pytest.mark.parametrize('arguments', [(), ('--dry-run',)])
def test_an_item_that_cannot_be_read_is_named_before_anything_is_run(project, capsys, config, item, message, arguments):
    (project / 'bad.py').write_text(config + '\n')
    plan = yaml.safe_load(write_plan(project).read_text())
    plan['items'].append({'name': 'second', 'config': 'bad.py', 'seeds': [0], 'options': item})
    (project / 'plan.yml').write_text(yaml.safe_dump(plan))
    assert run_driver(*arguments) == 2
    assert re.fullmatch(f'error: item second: {message}.*\n', capsys.readouterr().err)
    assert not Path('runs').exists() and not Path('results.csv').exists()
    # The other item is not concerned.
    assert run_driver('--only', 'first', '--dry-run') == 0


def test_a_config_that_breaks_while_others_run_fails_by_name(project):
    write_plan(project)
    (project / 'bad.py').write_text('_base_ = [\n')
    runs = [Run('second', 'bad.py', 0), load_plan('plan.yml').runs[0]]
    (failure,) = driver.run_all(runs, Path('runs'), Path('results.csv'), 1, Path('train.py'))
    assert failure.startswith('second bad.py seed=0: item second: bad.py cannot be read')
    assert [row['name'] for row in read_rows('results.csv')] == ['first']


def test_a_regular_expression_with_a_mistake_is_named(project, capsys):
    write_plan(project)
    with pytest.raises(SystemExit, match='2'):
        run_driver('--only', '*a')
    assert "--only must be a regular expression, got '*a': nothing to repeat" in capsys.readouterr().err


def test_a_finished_run_whose_options_fit_no_longer_gives_no_estimate(project):
    old = finished_row(Run('a', 'config.py', 0, {'train_dataloader.batch_size.x': 3}), updates=9, seconds=99.0, jobs=1)
    new = finished_row(Run('a', 'config.py', 1), updates=50, seconds=60.0, jobs=1)
    assert estimate_seconds(Run('a', 'config.py', 2), [old, new]) == 60.0


@pytest.mark.parametrize('value', [1, -2.5, 1e-5, True, None, 'cosine', [1, 2], [0.5, ['a', 'b']]])
def test_options_survive_the_command_line(value):
    arguments = train_arguments(Run('a', 'c.py', 7, {'key': value}))
    parsed = dict(each.split('=', 1) for each in arguments[arguments.index('--cfg-options') + 1 :])
    assert parsed == {'randomness.seed': '7', 'key': format_option(value)}
    assert DictAction._parse_iterable(parsed['key']) == value


def test_driver_runs_what_is_missing_and_writes_complete_rows(project, capsys):
    write_plan(project, options={'key': 0.5})
    assert run_driver('--only', 'seed=0') == 0
    assert run_driver('--jobs', '2') == 0
    rows = read_rows('results.csv')
    assert [(row['seed'], float(row['retrieval/Recall@1']), row['updates']) for row in rows] == [
        ('0', 20.0, '10'),
        ('1', 21.0, '10'),
    ]
    assert all(all(value != '' for value in row.values()) for row in rows)
    assert json.loads(rows[0]['options']) == {'key': 0.5}
    assert rows[0]['command'].startswith('python train.py config.py --work-dir runs/first-seed0-')
    assert rows[0]['command'].endswith('--cfg-options randomness.seed=0 key=0.5')
    assert rows[0]['torch'] == torch.__version__
    assert 0.1 <= float(rows[0]['seconds']) < 60
    assert '1 of 2 runs to do' in capsys.readouterr().out
    assert run_driver() == 0
    assert '0 of 2 runs to do' in capsys.readouterr().out
    assert len(list(project.glob('runs/*/attempt_*.log'))) == 2


def test_rows_of_another_machine_are_said_to_make_no_pairs_with_those_of_this_one(project, capsys):
    plan = load_plan(write_plan(project))
    append_row('results.csv', finished_row(plan.runs[0], machine='8 x Other'))
    assert run_driver('--dry-run') == 0
    assert f'measured elsewhere: 1 on 8 x Other; this is {describe_machine()}, and' in capsys.readouterr().out
    append_row('results.csv', finished_row(plan.runs[0], machine=describe_machine(), config_hash='y'), replace=True)
    assert run_driver('--dry-run') == 0
    assert 'elsewhere' not in capsys.readouterr().out


def test_jobs_share_the_cores(project):
    write_plan(project)
    jobs = 2
    assert run_driver('--jobs', str(jobs)) == 0
    threads = {log.read_text().splitlines()[1] for log in project.glob('runs/*/attempt_*.log')}
    assert threads == {f'threads {max(1, available_cores() // jobs)}'}


def test_a_failed_run_is_reported_and_the_others_go_on(project, capsys):
    write_plan(project, seeds=[13, 1])
    assert run_driver() == 1
    assert [row['seed'] for row in read_rows('results.csv')] == ['1']
    assert (
        'FAILED    first config.py seed=13: exit code 1: no luck (log: runs/'
        in capsys.readouterr().out.splitlines()[-1]
    )


def test_rows_that_cannot_be_written_are_named_and_the_next_call_writes_them(project, capsys):
    write_plan(project)
    path = project / 'train.py'
    path.write_text(TRAIN + "\nPath('results.csv').write_text('<<<<<<< HEAD')\n")
    assert run_driver() == 1
    printed = capsys.readouterr().out.splitlines()[-2:]
    assert all(f'FAILED    first config.py seed={seed}: results.csv, line 1' in printed[seed] for seed in (0, 1))
    path.write_text(TRAIN)
    Path('results.csv').unlink()
    assert run_driver() == 0
    assert [row['retrieval/Recall@1'] for row in read_rows('results.csv')] == ['20.0', '21.0']


def test_a_csv_that_cannot_be_written_is_named_before_anything_is_run(project, capsys):
    write_plan(project)
    assert run_driver('--csv', '/proc/results.csv') == 2
    assert capsys.readouterr().err.startswith('error: the output /proc/results.csv cannot be written')
    assert not Path('runs').exists()


def test_folders_that_cannot_be_made_fail_by_name(project, capsys):
    write_plan(project)
    Path('runs').write_text('')
    assert run_driver() == 1
    assert 'FAILED    first config.py seed=1: [Errno 20] Not a directory' in capsys.readouterr().out


def test_dry_run_starts_nothing(project, capsys):
    write_plan(project, estimate_minutes=30)
    assert run_driver('--dry-run', '--jobs', '2') == 0
    assert '2 of 2 runs to do: estimated 1.00 h' in capsys.readouterr().out
    assert not Path('runs').exists() and not Path('results.csv').exists()


def test_interrupted_driver_stops_its_children_and_goes_on_from_the_checkpoint(project):
    write_plan(project, seeds=[4], options={'hang': 0})
    process = subprocess.Popen(
        [sys.executable, SCRIPT, 'plan.yml', '--train-script', 'train.py'],
        env={**os.environ, 'PYTHONPATH': str(SCRIPT.parents[2])},
    )
    deadline = time.time() + 60
    while not (pids := list(project.glob('runs/*/pid'))):
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.05)
    # Another driver does not touch a run that is being trained.
    assert driver.run_all(load_plan('plan.yml').runs, Path('runs'), Path('results.csv'), 1, Path('train.py')) == [
        'first config.py seed=4 hang=0: another process is training it'
    ]
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids[0].read_text()), 0)
    assert not Path('results.csv').exists()
    assert run_driver() == 0
    (row,) = read_rows('results.csv')
    assert (float(row['retrieval/Recall@1']), row['updates']) == (24.0, '10')
    first, second = sorted(project.glob('runs/*/attempt_*.log'))
    assert '--resume' not in first.read_text() and '--resume' in second.read_text()


@pytest.mark.parametrize('fork', [False, True])
def test_a_second_interruption_leaves_no_training_behind(project, fork):
    write_plan(project, seeds=[4, 5], options={'hang': 1})
    process = subprocess.Popen(
        [sys.executable, SCRIPT, 'plan.yml', '--train-script', 'train.py', '--jobs', '2', *['--fork'] * fork],
        env={**os.environ, 'PYTHONPATH': str(SCRIPT.parents[2])},
    )
    deadline = time.time() + 60
    while len(pids := list(project.glob('runs/*/pid'))) < 2:
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.05)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert process.wait(30) == 130
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


def test_an_interruption_while_a_run_is_started_ends_it(project, monkeypatch):
    write_plan(project, seeds=[4], options={'hang': 0})
    started = []

    class Started(driver.Job):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            started.append(self.process)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(driver, 'Job', Started)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert run_driver() == 130
    assert len(started) == 1 and started[0].poll() is not None
    # Whoever called the driver is interrupted as before.
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_changed_config_is_reported_and_never_resumes_old_checkpoints(project, capsys):
    write_plan(project, seeds=[0])
    assert run_driver() == 0
    Path('config.py').write_text('train_cfg = dict(max_epochs=3)\ntrain_dataloader = dict(batch_size=4)\n')
    assert run_driver() == 0
    assert 'STALE  first config.py seed=0' in capsys.readouterr().out
    (old,) = read_rows('results.csv')
    assert run_driver('--stale') == 0
    (new,) = read_rows('results.csv')
    assert new['run'] == old['run'] and new['config_hash'] != old['config_hash']
    assert run_driver('--stale') == 0
    assert '0 of 1 runs to do' in capsys.readouterr().out
    Path('config.py').write_text('train_cfg = dict(max_epochs=4)\ntrain_dataloader = dict(batch_size=4)\n')
    Path('results.csv').unlink()
    assert run_driver() == 0
    assert not any('--resume' in log.read_text() for log in project.glob('runs/*/attempt_*.log'))
    assert len(list(project.glob('runs/*'))) == 3


def test_last_evaluation_is_the_last_one_of_all_attempts(tmp_path):
    for folder, epochs in (('20250101_000000', (1, 2)), ('20250102_000000', (3,))):
        log = tmp_path / folder / 'vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        lines = [{'retrieval/Recall@1': 90.0 - epoch, 'time': 1.0, 'step': epoch} for epoch in epochs]
        lines.append({'loss': 1.0, 'iaa/alpha': 0.5, 'iter': 99, 'step': 99})
        log.write_text('\n'.join(map(json.dumps, lines)) + '\n')
    assert last_evaluation(tmp_path) == (3, {'retrieval/Recall@1': 87.0})


def test_an_evaluation_before_the_last_epoch_is_refused(project):
    log = project / 'run/20250101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps({'retrieval/Recall@1': 80.0, 'step': 1}) + '\n')
    shutil.copy(project / 'epoch_2.pth', project / 'run')
    (project / 'run/last_checkpoint').write_text('epoch_2.pth')
    with pytest.raises(ValueError, match='evaluation is of step 1, but training ended at epoch 2, iteration 10'):
        final_metrics(project / 'run')


def _append_many(path, start):
    for number in range(start, start + 10):
        append_row(path, finished_row(Run('a', 'config.py', number), **{f'retrieval/M{number % 3}': number}))


def test_concurrent_appends_lose_no_row_and_add_columns_for_new_metrics(tmp_path):
    path = tmp_path / 'results.csv'
    context = multiprocessing.get_context('fork')
    writers = [context.Process(target=_append_many, args=(path, start)) for start in (0, 10, 20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    rows = read_rows(path)
    assert sorted(int(row['seed']) for row in rows) == list(range(30))
    for row in rows:
        number = int(row['seed'])
        assert [row[f'retrieval/M{each}'] for each in range(3)] == [
            str(number) if each == number % 3 else '' for each in range(3)
        ]
    assert [path.name] == os.listdir(tmp_path)


def test_writers_by_a_link_and_by_the_file_lose_no_row(tmp_path):
    for folder in ('here', 'there'):
        (tmp_path / folder).mkdir()
    (tmp_path / 'there/results.csv').symlink_to(tmp_path / 'here/results.csv')
    context = multiprocessing.get_context('fork')
    writers = [
        context.Process(target=_append_many, args=(tmp_path / folder / 'results.csv', start))
        for folder, start in (('here', 0), ('there', 10))
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(int(row['seed']) for row in read_rows(tmp_path / 'here/results.csv')) == list(range(20))


def test_a_run_is_recorded_once(tmp_path):
    row = finished_row(Run('a', 'config.py', 0))
    assert append_row(tmp_path / 'results.csv', row)
    assert not append_row(tmp_path / 'results.csv', {**row, 'seconds': 1})
    assert [each['seconds'] for each in read_rows(tmp_path / 'results.csv')] == ['60.0']


def test_estimate_scales_the_median_of_finished_runs_by_updates(project):
    rows = []
    for seed, (epochs, seconds) in enumerate([(2, 60.0), (4, 140.0), (2, 300.0)]):
        done = Run('a', 'config.py', seed, {'train_cfg.max_epochs': epochs})
        rows.append(finished_row(done, updates=50 * epochs, seconds=2 * seconds, jobs=2))
    longer = Run('a', 'config.py', 9, {'train_cfg.max_epochs': 8}, estimate_minutes=1)
    assert estimate_seconds(longer, rows) == pytest.approx(280.0)
    assert estimate_seconds(longer, []) == 60.0
    assert estimate_seconds(Run('a', 'config.py', 9), []) is None
    # A number of batches that only one of two runs has says nothing about their ratio.
    sampled = {'train_dataloader.sampler.num_batches': 50}
    assert estimate_seconds(Run('a', 'config.py', 9, {'train_cfg.max_epochs': 8, **sampled}), rows) == 280.0
    rows = [
        finished_row(
            Run('a', 'config.py', 0, {'train_cfg.max_epochs': 2, **sampled}), updates=100, seconds=60.0, jobs=1
        )
    ]
    more = {'train_cfg.max_epochs': 4, 'train_dataloader.sampler.num_batches': 25}
    assert estimate_seconds(Run('a', 'config.py', 9, more), rows) == pytest.approx(60.0)


# ---- files that are broken, and kills ----


def results_file(folder, rows=3):
    path = folder / 'results.csv'
    for seed in range(rows):
        row = finished_row(Run('a', 'config.py', seed), **{'retrieval/M': 1.5}, jobs=1, command='python train.py')
        append_row(path, row)
    return path


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda data: data[: len(data) // 2], 'line 2: 8 values for 18 columns; restore the file'),
        (lambda data: data[:-3], 'line 4: the file was cut off within the line; restore the file'),
        (lambda data: data[:20], 'line 1: the header must have every column once, it lacks '),
        (lambda data: b'', 'is empty; delete it'),
        (lambda data: data.replace(b'config', b'\xff\xfe\x00'), 'line 1 is not UTF-8|line 1 is no text'),
        (lambda data: data.replace(b',1,{},', b',one,{},'), "line 3: seed must be a whole number, got 'one'"),
        (lambda data: data.replace(b',1,{},', b',1,[],'), "line 3: options must be a JSON mapping, got '\\[\\]'"),
        (lambda data: data.replace(b',1.5,', b',good,'), "line 2: retrieval/M must be a number, got 'good'"),
        (lambda data: data.replace(b',60.0,', b',nan,'), "line 2: seconds must be a number, got 'nan'"),
        (lambda data: data.replace(b'retrieval/M', b'name'), 'the header must have every column once'),
    ],
)
def test_a_broken_table_of_results_is_refused_by_file_line_and_column_and_never_overwritten(tmp_path, change, message):
    path = results_file(tmp_path)
    broken = change(path.read_bytes())
    path.write_bytes(broken)
    for read in (read_rows, lambda file: append_row(file, finished_row(Run('a', 'config.py', 9)))):
        with pytest.raises(ValueError, match='results.csv.* ' + message if message[0] != 'i' else message):
            read(path)
    assert path.read_bytes() == broken


def test_a_table_without_rows_is_right_for_a_new_plan_only(tmp_path):
    path = tmp_path / 'results.csv'
    assert read_rows(path, may_be_empty=True) == []
    with pytest.raises(FileNotFoundError, match=f'there is no file {path}'):
        read_rows(path)
    path.write_text(results_file(tmp_path / 'other').read_text().splitlines()[0] + '\n')
    assert read_rows(path, may_be_empty=True) == []
    with pytest.raises(ValueError, match='results.csv has a header and no row'):
        read_rows(path)


def test_a_kill_while_rows_are_written_loses_none_that_was_acknowledged(tmp_path):
    path = tmp_path / 'results.csv'
    known = 0
    for attempt in range(12):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            for seed in range(known, known + 1000):
                if append_row(path, finished_row(Run('a', 'config.py', seed), command='x' * 2000)):
                    os.write(writer, b'.')
            os._exit(0)
        os.close(writer)
        os.read(reader, 1)  # it writes by now
        time.sleep(0.003 * attempt)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        acknowledged = 1
        while more := os.read(reader, 4096):
            acknowledged += len(more)
        os.close(reader)
        rows = read_rows(path)
        # A row may be in the file whose acknowledgment the kill cut off.
        assert [int(row['seed']) for row in rows] == list(range(len(rows)))
        assert known + acknowledged <= len(rows) <= known + acknowledged + 1
        known = len(rows)
    append_row(path, finished_row(Run('a', 'config.py', known)))
    assert os.listdir(tmp_path) == ['results.csv']


def write_log(folder, content):
    log = folder / '20250101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(content)
    return log


@pytest.mark.parametrize('line', ['{"retrieval/Recall@1": 80', 'text', '5', '{"retrieval/Recall@1": 80.0}'])
def test_a_broken_log_is_named_with_its_line_and_a_remedy(tmp_path, line):
    log = write_log(tmp_path, f'{{"loss": 1.0, "iter": 1, "step": 1}}\n{line}\n')
    with pytest.raises(
        ValueError, match=f'{log}, line 2 is no line of a log: .*delete the line, or the folder {tmp_path}'
    ):
        last_evaluation(tmp_path)


def test_a_last_line_that_a_kill_cut_off_does_not_count(tmp_path):
    write_log(tmp_path, '{"retrieval/Recall@1": 80.0, "step": 1}\n{"retrieval/Recall@1": 9')
    assert last_evaluation(tmp_path) == (1, {'retrieval/Recall@1': 80.0})


def test_a_checkpoint_is_found_by_a_pointer_relative_to_its_run(project):
    write_log(project / 'run', '{"retrieval/Recall@1": 80.0, "step": 2}\n')
    (project / 'epoch_2.pth').rename(project / 'run/epoch_2.pth')
    (project / 'run/last_checkpoint').write_text('epoch_2.pth')
    assert final_metrics(project / 'run') == (10, {'retrieval/Recall@1': 80.0})
    (project / 'run/last_checkpoint').write_text('epoch_3.pth')
    with pytest.raises(ValueError, match='last_checkpoint names .*epoch_3.pth, which is not there'):
        final_metrics(project / 'run')


def test_one_run_with_a_broken_folder_fails_by_name_and_the_others_go_on(project, capsys):
    write_plan(project)
    (project / 'epoch_2.pth').write_bytes(b'no checkpoint')
    assert run_driver() == 1
    failures = [line for line in capsys.readouterr().out.splitlines() if line.startswith('FAILED')]
    assert [re.search(r'seed=(\d): \w+', line)[1] for line in failures] == ['0', '1', '0', '1']


def test_a_run_that_was_killed_in_its_last_evaluation_is_evaluated_by_the_next_call(project):
    write_plan(project, seeds=[3], options={'no_evaluation': 2})
    assert run_driver() == 1
    assert read_rows('results.csv', may_be_empty=True) == []
    assert run_driver() == 0
    (row,) = read_rows('results.csv')
    assert (row['retrieval/Recall@1'], row['updates']) == ('23.0', '10')


def test_an_attempt_that_was_killed_before_it_wrote_its_header_does_not_count(project):
    write_plan(project, seeds=[0])
    assert run_driver() == 0
    (folder,) = project.glob('runs/*')
    Path('results.csv').unlink()
    (folder / 'attempt_1.000.log').write_text('{"comm')
    assert run_driver() == 0
    (row,) = read_rows('results.csv')
    assert float(row['seconds']) < 600


KILLER = """
import os, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class KilledInTheLastEvaluation(Hook):
    def after_val_iter(self, runner, *args, **kwargs):
        if runner.epoch == runner.max_epochs and not os.path.exists('killed'):
            open('killed', 'w').close()
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_real_training_that_is_killed_in_its_last_evaluation_gets_its_row_from_the_next_call(
    pictures, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', f'{tmp_path}{os.pathsep}{SCRIPT.parents[2]}')
    Path('killer.py').write_text(KILLER)
    cfg = tiny_config(pictures, 'unused', config='multi_similarity/ms_conv4_omniglot.py', train_cfg__max_epochs=2)
    cfg.pop('work_dir')
    cfg.custom_imports = dict(imports=['killer'], allow_failed_imports=False)
    cfg.custom_hooks = [dict(type='KilledInTheLastEvaluation')]
    monkeypatch.syspath_prepend(tmp_path)
    Path('config.py').write_text(cfg.pretty_text)
    write_plan(tmp_path, seeds=[0])
    command = ['plan.yml', '--train-script', str(SCRIPT.parents[1] / 'train.py')]
    assert driver.main(command) == 1 and Path('killed').exists()
    assert read_rows('results.csv', may_be_empty=True) == []
    assert driver.main(command) == 0
    (row,) = read_rows('results.csv')
    assert 0 < float(row['retrieval/Recall@1']) <= 100 and int(row['updates']) > 0


# ---- forked runs -----------------------------------------------------------------------------------------------------


def test_forked_runs_leave_the_rows_and_logs_of_started_ones(project, capfd):
    write_plan(project, seeds=[13, 1, 2])
    assert run_driver('--fork', '--jobs', '2', '--threads', '3') == 1
    assert [row['seed'] for row in read_rows('results.csv')] == ['1', '2']
    logs = [log.read_text() for log in project.glob('runs/*/attempt_*.log')]
    assert len(logs) == 3 and all('threads 3\n' in log for log in logs)
    assert read_rows('results.csv')[0]['command'].startswith('OMP_NUM_THREADS=3 python train.py config.py ')
    assert 'exit code 1: no luck (log: runs/' in capfd.readouterr().out


def test_an_interrupted_driver_stops_its_forks(project):
    write_plan(project, seeds=[4], options={'hang': 0})
    process = subprocess.Popen(
        [sys.executable, SCRIPT, 'plan.yml', '--train-script', 'train.py', '--fork'],
        env={**os.environ, 'PYTHONPATH': str(SCRIPT.parents[2])},
    )
    deadline = time.time() + 60
    while not (pids := list(project.glob('runs/*/pid'))):
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids[0].read_text()), 0)
    assert run_driver('--fork') == 0
    assert [float(row['retrieval/Recall@1']) for row in read_rows('results.csv')] == [24.0]


@pytest.mark.slow
def test_a_forked_run_on_features_has_the_figures_of_its_printed_command(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).standard_normal((80, 6)).astype(np.float32)
    np.savez(tmp_path / 'f.npz', embeddings=rows, labels=np.repeat(np.arange(20), 4))
    monkeypatch.chdir(SCRIPT.parents[2])
    options = {f'{name}_dataloader.dataset.data_root': str(tmp_path) for name in ('train', 'val', 'test')}
    options |= {f'{name}_dataloader.dataset.ann_file': 'f.npz' for name in ('train', 'val', 'test')}
    options |= {'model.neck.in_channels': 6, 'train_dataloader.sampler.batch_size': 16}
    options |= {'train_dataloader.batch_size': 16, 'train_cfg.max_epochs': 2, 'train_cfg.val_interval': 2}
    options |= {'default_hooks.checkpoint.interval': 2}
    plan = {
        'csv': str(tmp_path / 'results.csv'),
        'work_root': str(tmp_path / 'runs'),
        'options': options,
        'items': [{'name': 'f', 'config': 'configs/features/iaa_ms_linear_features.py', 'seeds': [3]}],
    }
    (tmp_path / 'plan.yml').write_text(yaml.safe_dump(plan))
    # A process of its own: a fork of this one would have the threads of torch that other tests started.
    command = [sys.executable, str(SCRIPT), str(tmp_path / 'plan.yml'), '--fork', '--threads', '1']
    assert subprocess.run(command, capture_output=True).returncode == 0
    (row,) = read_rows(tmp_path / 'results.csv')
    command = row['command'].replace(str(tmp_path / 'runs'), str(tmp_path / 'again'))
    prefix, _, command = command.partition(' python ')
    name, _, threads = prefix.partition('=')
    arguments = [sys.executable, *shlex.split(command)]
    assert subprocess.run(arguments, env={**os.environ, name: threads}, capture_output=True).returncode == 0
    _, metrics = final_metrics(next((tmp_path / 'again').iterdir()))
    assert {key: float(row[key]) for key in metrics} == metrics


def test_seeds_may_be_outermost_and_a_mapping_sets_several_options(project):
    path = write_plan(project, matrix={'data': [{}, {'a': 1, 'b': 2}]})
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, 'order': 'seeds'}))
    expected = [(0, {}), (0, {'a': 1, 'b': 2}), (1, {}), (1, {'a': 1, 'b': 2})]
    assert [(run.seed, run.options) for run in load_plan(path).runs] == expected
    path.write_text(yaml.safe_dump({**content, 'order': 'random'}))
    with pytest.raises(ValueError, match="order must be items or seeds, got 'random'"):
        load_plan(path)
