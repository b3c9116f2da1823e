"""The results driver, with a script that stands in for training: it writes what MMEngine writes, and nothing more."""

import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import DictAction

from experiments import (
    Run,
    append_row,
    estimate_seconds,
    final_metrics,
    format_option,
    last_evaluation,
    load_plan,
    read_rows,
    train_arguments,
)

SCRIPT = Path(__file__).parents[2] / 'tools/analysis_tools/run_experiments.py'
spec = importlib.util.spec_from_file_location('run_experiments', SCRIPT)
driver = importlib.util.module_from_spec(spec)
spec.loader.exec_module(driver)

# Two epochs of five iterations. Seed 13 fails; `wait_for` makes the first attempt stop after epoch 1 and hang there.
TRAIN = """
import json, os, shutil, sys, time
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
        print(json.dumps({'retrieval/Recall@1': score, 'time': 0.1, 'step': epoch}), file=log)
        shutil.copy(here / f'epoch_{epoch}.pth', work_dir)
        (work_dir / 'last_checkpoint').write_text(f'epoch_{epoch}.pth')
        if 'hang' in options and first_epoch == 1:
            (work_dir / 'pid').write_text(str(os.getpid()))
            time.sleep(60)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a config, a stand-in for tools/train.py and its checkpoints; the current folder of the test."""
    (tmp_path / 'train.py').write_text(TRAIN)
    (tmp_path / 'config.py').write_text('train_cfg = dict(max_epochs=2)\ntrain_dataloader = dict(batch_size=4)\n')
    for epoch in (1, 2):
        meta = {'epoch': epoch, 'iter': 5 * epoch}
        torch.save({'meta': meta, 'state_dict': {}}, tmp_path / f'epoch_{epoch}.pth')
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
    ],
)
def test_plan_errors_name_item_and_key(project, item, message):
    with pytest.raises(ValueError, match=message):
        load_plan(write_plan(project, **item))


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


def test_jobs_share_the_cores(project):
    write_plan(project)
    jobs = 2
    assert run_driver('--jobs', str(jobs)) == 0
    threads = {log.read_text().splitlines()[1] for log in project.glob('runs/*/attempt_*.log')}
    assert threads == {f'threads {max(1, driver.available_cores() // jobs)}'}


def test_a_failed_run_is_reported_and_the_others_go_on(project, capsys):
    write_plan(project, seeds=[13, 1])
    assert run_driver() == 1
    assert [row['seed'] for row in read_rows('results.csv')] == ['1']
    assert (
        'FAILED    first config.py seed=13: exit code 1: no luck (log: runs/'
        in capsys.readouterr().out.splitlines()[-1]
    )


def test_dry_run_starts_nothing(project, capsys):
    write_plan(project, estimate_minutes=30)
    assert run_driver('--dry-run', '--jobs', '2') == 0
    assert '2 of 2 runs to do: estimated 1.00 h' in capsys.readouterr().out
    assert not Path('runs').exists() and not Path('results.csv').exists()


def test_interrupted_driver_stops_its_children_and_goes_on_from_the_checkpoint(project):
    write_plan(project, seeds=[4], options={'hang': 1})
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
        'first config.py seed=4 hang=1: another process is training it'
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


def test_a_changed_config_is_reported_and_never_resumes_old_checkpoints(project, capsys):
    write_plan(project, seeds=[0])
    assert run_driver() == 0
    Path('config.py').write_text('train_cfg = dict(max_epochs=3)\ntrain_dataloader = dict(batch_size=4)\n')
    assert run_driver() == 0
    assert 'STALE  first config.py seed=0' in capsys.readouterr().out
    Path('results.csv').unlink()
    assert run_driver() == 0
    assert not any('--resume' in log.read_text() for log in project.glob('runs/*/attempt_*.log'))
    assert len(list(project.glob('runs/*'))) == 2


def test_last_evaluation_is_the_last_one_of_all_attempts(tmp_path):
    for folder, epochs in (('20250101_000000', (1, 2)), ('20250102_000000', (3,))):
        log = tmp_path / folder / 'vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        lines = [{'retrieval/Recall@1': 90.0 - epoch, 'time': 1.0, 'step': epoch} for epoch in epochs]
        lines.append({'loss': 1.0, 'iaa/alpha': 0.5, 'iter': 99, 'step': 99})
        log.write_text('\n'.join(map(json.dumps, lines)))
    assert last_evaluation(tmp_path) == (3, {'retrieval/Recall@1': 87.0})


def test_an_evaluation_before_the_last_epoch_is_refused(project):
    log = project / 'run/20250101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps({'retrieval/Recall@1': 80.0, 'step': 1}))
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
