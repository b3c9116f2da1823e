"""Tables of paired differences: values worked out by hand, and those of the docs against the CSV."""

import json
import re
from pathlib import Path

import cluster_semantics
import division_negatives
import inline_figures
import make_verdict
import numpy as np
import pytest
import torch
from comparison_plots import plot_curves, plot_gains
from paired_scores import DEFAULT_SET, compare, compare_means, read_scores
from results import append_row, read_rows

from experiments import Run

ROOT = Path(__file__).parents[2]


def row(name, seed, recall, where=None, machine='here'):
    options = {'val_dataloader.dataset.data_root': where} if where else {}
    scores = {'retrieval/Recall@1': str(recall), 'retrieval/MAP@R': str(recall / 2)}
    return {'name': name, 'seed': str(seed), 'options': json.dumps(options), 'machine': machine, **scores}


ROWS = [
    *(row('a', seed, 50 + seed) for seed in range(3)),
    *(row('b', seed, 51 + 2 * seed) for seed in range(3)),
    row('a', 0, 30, 'features/x/y'),
    row('b', 0, 28, 'features/x/y'),
]
DEFINITIONS = {
    'csv': {'': 'results.csv'},
    'comparisons': {
        'one': {
            'caption': 'Words.',
            'command': 'python run',
            'rows': [{'label': 'B', 'base': 'a', 'arm': 'b'}, {'label': 'C', 'base': 'a', 'arm': 'c'}],
        },
        'one-mean': {'mean_of': 'one', 'caption': 'Means.'},
    },
}
FROZEN = {DEFAULT_SET: {'Recall@1': '60.00', 'MAP@R': '20.00'}}


def cells_of(text, label):
    return [[cell.strip() for cell in line.split('|')[1:-1]] for line in text.splitlines() if f' {label} ' in line]


def test_a_row_has_means_differences_intervals_and_signs_of_shared_seeds():
    scores = read_scores(ROWS, FROZEN)
    text = make_verdict.render('one', DEFINITIONS, scores, FROZEN)
    assert text.startswith('Words.\n') and text.endswith('From: `python run`')
    assert '| C |' not in text and 'Not run on grocery, mobilenet-v2 and y, x: C.' in text
    first, second = cells_of(text, 'B')
    # Differences 1, 2, 3: mean 2, t interval 2 ± 4.3027 / sqrt(3).
    assert first[:7] == ['grocery, mobilenet-v2', 'B', '60.00', '51.00', '53.00', '+2.00', '[-0.48, +4.48]']
    assert first[8:11] == ['3/3', '+1.00', '[-0.24, +2.24]']
    assert second == ['y, x', 'B', '', '30.00', '28.00', '-2.00', '', '', '0/1', '-1.00', '', '', '0/1']


def test_scores_on_validation_classes_have_no_score_on_test_classes_beside_them():
    scores = read_scores(ROWS, FROZEN) | read_scores(ROWS, FROZEN, 'val/')
    rows = [{'label': 'T', 'base': 'a', 'arm': 'b'}, {'label': 'V', 'base': 'val/a', 'arm': 'val/b'}]
    both = {'caption': '', 'command': '', 'sets': [DEFAULT_SET], 'rows': rows}
    definitions = {'csv': {'': 'x.csv', 'val/': {'file': 'y.csv', 'validation': True}}, 'comparisons': {'both': both}}
    text = make_verdict.render('both', definitions, scores, FROZEN)
    assert [cells_of(text, label)[0][2:5] for label in 'TV'] == [['60.00', '51.00', '53.00'], ['', '51.00', '53.00']]


def test_what_was_not_run_is_listed_by_sets():
    others = [{'label': label, 'base': 'a', 'arm': 'z'} for label in 'DE']
    partly = [row('p', 0, 28, 'features/x/y')]
    rows = [*DEFINITIONS['comparisons']['one']['rows'], *others, {'label': 'P', 'base': 'a', 'arm': 'p'}]
    comparison = {**DEFINITIONS['comparisons']['one'], 'rows': rows}
    definitions = {**DEFINITIONS, 'comparisons': {'one': comparison}}
    text = make_verdict.render('one', definitions, read_scores([*ROWS, *partly], FROZEN), FROZEN)
    expected = 'Not run on grocery, mobilenet-v2 and y, x: C; D; E. Not run on grocery, mobilenet-v2: P.'
    assert expected in text.splitlines()


def test_the_features_themselves_are_a_base():
    scores = read_scores(ROWS, FROZEN)
    found = compare(scores, 'retrieval/Recall@1', DEFAULT_SET, 'frozen', 'a')
    assert (found.n, found.mean, found.positive) == (3, -9.0, 0)


def test_runs_of_two_machines_make_no_pair():
    elsewhere = [row('a', 7, 50, machine='there'), row('b', 7, 80), row('a', 8, 40, machine='there')]
    assert compare(read_scores([*ROWS, *elsewhere], {}), 'retrieval/Recall@1', DEFAULT_SET, 'a', 'b').n == 3
    # A pair of the other machine counts, and so do the features themselves beside its runs.
    both = read_scores([*ROWS, *elsewhere, row('b', 8, 46, machine='there')], FROZEN)
    found = compare(both, 'retrieval/Recall@1', DEFAULT_SET, 'a', 'b')
    assert (found.n, found.mean, found.positive) == (4, 3.0, 4)
    assert compare(both, 'retrieval/Recall@1', DEFAULT_SET, 'frozen', 'a').n == 5


def test_a_mean_over_sets_is_of_runs_of_one_machine():
    other = 'features/x/y'
    rows = [*ROWS, row('a', 1, 40, other, 'there'), row('b', 1, 41, other, 'there')]
    assert compare_means(read_scores(rows, {}), 'retrieval/Recall@1', [DEFAULT_SET, other], 'a', 'b').n == 1


def test_a_sentence_has_the_gain_of_a_row():
    scores, which = read_scores(ROWS, FROZEN), f'one; B; Recall@1; {DEFAULT_SET}'
    text = f'So: <!-- gain: {which} -->old<!-- /gain -->.'
    found = make_verdict.fill(text, DEFINITIONS, scores, FROZEN)
    assert found == text.replace('old', '+2.00 [-0.48, +4.48], 3/3')
    with pytest.raises(ValueError, match="there is no 'one; D; Recall@1'"):
        inline_figures.gain_of('one; D; Recall@1', DEFINITIONS, scores)


def test_a_sentence_has_the_score_of_a_side_of_a_row():
    scores = read_scores(ROWS, FROZEN)
    score = f'<!-- score: one; B; Recall@1; arm; {DEFAULT_SET} --><!-- /score -->'
    text = score + '<!-- gain: one; C; Recall@1 --><!-- /gain -->'
    found = make_verdict.fill(text, DEFINITIONS, scores, FROZEN)
    assert '-->53.00<!-- /score -->' in found and '-->not run<!-- /gain -->' in found
    assert inline_figures.score_of('one; B; MAP@R; base; features/x/y', DEFINITIONS, scores) == '15.00'
    assert inline_figures.score_of('one; C; Recall@1; base', DEFINITIONS, scores) == 'not run'
    with pytest.raises(ValueError, match="one of .'base', 'arm'., got 'other'"):
        inline_figures.score_of('one; B; Recall@1; other', DEFINITIONS, scores)


def test_means_over_sets_take_the_seeds_that_all_sets_have():
    scores = read_scores(ROWS, FROZEN)
    ((label, base, arm, mean, interval, _, signs, *_),) = cells_of(
        make_verdict.render('one-mean', DEFINITIONS, scores, {}), 'B'
    )
    assert (label, base, arm, mean, interval, signs) == ('B', '40.00', '39.50', '-0.50', '', '0/1')


def test_a_comparison_that_is_not_defined_is_named():
    with pytest.raises(ValueError, match="no comparison 'two'; .* defines"):
        make_verdict.fill('<!-- paired: two -->\n<!-- /paired -->', DEFINITIONS, {}, {})


def test_the_tables_of_the_docs_are_those_of_the_csv():
    assert make_verdict.main(['--check']) == 0


def test_every_interval_in_the_sentences_of_the_verdict_is_made_from_the_csv():
    text = (ROOT / 'docs/verdict.md').read_text(encoding='utf-8')
    prose = re.sub(r'<!-- (gain|score|paired): .*?<!-- /(gain|score|paired) -->', '', text, flags=re.DOTALL)
    assert '<!-- gain: ' in text and not re.search(r'\[[+-]?\d+\.\d+, [+-]?\d+\.\d+\]', prose)
    assert not re.search(r'\b\d+\.\d\d\b', prose)


def test_every_measured_row_of_features_names_its_command_machine_and_commit():
    rows = read_rows(ROOT / 'experiments/results_features.csv')
    assert rows and all(each['command'] and each['machine'] and 'dirty' not in each['commit'] for each in rows)
    # Classes may be held out of training here, but the test classes are scored.
    assert not any('dataset.split' in each['options'] for each in rows)
    held_out = read_rows(ROOT / 'experiments/results_features_val.csv')
    assert all(json.loads(each['options'])['val_dataloader.dataset.split'] == 'val' for each in held_out)


def test_clusters_that_are_the_coarse_classes_agree_and_shuffled_ones_do_not(tmp_path):
    (tmp_path / 'coarse.txt').write_text('0 0 x\n1 0 x\n2 1 y\n3 1 y\n')
    labels = np.repeat(np.arange(4), 10)
    coarse = cluster_semantics.coarse_labels(str(tmp_path / 'coarse.txt'), labels)
    rows = torch.eye(2)[torch.from_numpy(labels // 2)] + 0.01 * torch.randn(40, 2, generator=torch.Generator())
    nmi, ami, fine, shuffled = cluster_semantics.agreement(rows, labels, coarse, 2, 2)
    assert nmi == pytest.approx(1) and ami == pytest.approx(1) and 0.5 < fine < 0.8 and shuffled < 0.2
    with pytest.raises(ValueError, match='coarse.txt has no line for the label 7'):
        cluster_semantics.coarse_labels(str(tmp_path / 'coarse.txt'), np.array([7]))


def test_negatives_inside_clusters_are_nearer_and_inside_random_ones_as_far(tmp_path, capsys):
    labels = np.repeat(np.arange(32), 8)
    sides = np.eye(2)[labels // 16] * 6
    rows = np.concatenate([sides, np.random.default_rng(0).standard_normal((256, 12))], 1).astype(np.float32)
    np.savez(tmp_path / 'f.npz', embeddings=rows, labels=labels)
    division_negatives.main([str(tmp_path / 'f.npz'), '--clusters', '2', '--batches', '4', '--seeds', '1'])
    lines = [line.split('|')[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
    found = {line[0].strip(): [float(cell) for cell in line[1:]] for line in lines}
    everything, inside, control = (found[name] for name in ('1, everything', '2, k-means', '2, random'))
    assert all(near < far for near, far in zip(inside, everything, strict=True)) and inside[0] < everything[0] - 0.1
    assert control[0] == pytest.approx(everything[0], abs=0.05)
    assert all(nearest <= drawn <= mean for mean, drawn, nearest in found.values())


def test_several_trainings_give_differences_with_intervals(tmp_path, capsys):
    labels = np.repeat(np.arange(32), 8)
    sides = np.eye(2)[labels // 16] * 6
    files = []
    for seed in range(3):
        noise = np.random.default_rng(seed).standard_normal((256, 12))
        files.append(str(tmp_path / f'{seed}.npz'))
        np.savez(files[-1], embeddings=np.concatenate([sides, noise], 1).astype(np.float32), labels=labels)
    options = ['--clusters', '2', '--batches', '4', '--seeds', '1']
    apart = []
    for file in files:
        division_negatives.main([file, *options])
        apart.append(cells_of(capsys.readouterr().out, '2, k-means')[0][1])
    division_negatives.main([*files, *options])
    text = capsys.readouterr().out
    mean, low, high = re.fullmatch(r'(\S+) \(-\S+ \[(-\S+), (-\S+)\]\)', cells_of(text, '2, k-means')[0][1]).groups()
    assert float(mean) == pytest.approx(np.mean([float(value) for value in apart]), abs=0.001)
    assert float(low) < float(high) < 0 and '(' not in cells_of(text, '1, everything')[0][1]


def test_a_set_is_taken_out_of_the_name_of_a_run():
    run = {**row('iaa_ms_cars-half', 0, 8), 'config': 'configs/iaa/iaa_ms_x_cars-half.py'}
    assert read_scores([run], {}, 'o/')['retrieval/Recall@1', 'cars-half', 'o/iaa_ms'] == {('here', 0): 8.0}


def test_curves_are_drawn_of_gains_by_line_and_of_scores(tmp_path):
    scores = read_scores(ROWS, {})
    rows = [{'label': 'B', 'base': 'a', 'arm': 'b', 'x': 3}, {'label': 'C', 'base': 'a', 'arm': 'c', 'x': 9}]
    sets = [DEFAULT_SET, 'features/x/y']
    lines = [{**row, 'line': row['label']} for row in rows]
    plot_curves({'rows': lines, 'sets': sets, 'x': 'images'}, scores, tmp_path / 'gains.png')
    names = {'base_line': 'one', 'arm_line': 'four'}
    plot_curves({'rows': rows, 'sets': sets, 'x': 'updates', **names}, scores, tmp_path / 'scores.png')
    plot_gains({'rows': rows, 'sets': sets}, scores, tmp_path / 'dots.png')
    assert all((tmp_path / f'{name}.png').stat().st_size > 5000 for name in ('gains', 'scores', 'dots'))


def test_a_set_without_a_measured_gain_has_no_panel(tmp_path):
    scores = read_scores(ROWS, {})
    rows = [{'label': 'B', 'base': 'a', 'arm': 'b'}, {'label': 'never run', 'base': 'a', 'arm': 'z'}]
    pictures = []
    for sets in ([DEFAULT_SET], [DEFAULT_SET, 'features/not/run']):
        plot_gains({'rows': rows, 'sets': sets}, scores, tmp_path / 'gains.png')
        pictures.append((tmp_path / 'gains.png').read_bytes())
    plot_gains({'rows': rows[:1], 'sets': [DEFAULT_SET]}, scores, tmp_path / 'gains.png')
    assert pictures[0] == pictures[1] == (tmp_path / 'gains.png').read_bytes()


COMPARISONS = """csv: {'': results.csv}
frozen: frozen.csv
comparisons:
  one:
    caption: Words.
    command: python run
    plot: docs/one.png
    rows:
      - {label: B, base: a, arm: b}
"""
MARKED = '<!-- paired: one -->\n<!-- /paired -->\n\nBy <!-- gain: one; B; Recall@1 --><!-- /gain -->.\n'


@pytest.fixture
def project(tmp_path):
    """A project of one comparison with its CSV, a plan and a page."""
    for folder in ('experiments', 'docs'):
        (tmp_path / folder).mkdir()
    (tmp_path / 'experiments/comparisons.yml').write_text(COMPARISONS)
    (tmp_path / 'docs/a.md').write_text(MARKED)
    (tmp_path / 'frozen.csv').write_text(f'set,Recall@1,MAP@R\n{DEFAULT_SET},60.0,20.0\n')
    for name, seed, score in (('a', 0, 50.0), ('a', 1, 51.0), ('b', 0, 51.5), ('b', 1, 53.0)):
        add_row(tmp_path, Run(name, f'configs/{name}.py', seed, SET), score)
    return tmp_path


SET = {'val_dataloader.dataset.data_root': DEFAULT_SET}


def add_row(project, run, score, **changes):
    values = {'run': run.id, 'name': run.name, 'config': run.config, 'seed': run.seed}
    values |= {'options': json.dumps(run.options), 'retrieval/Recall@1': score, 'retrieval/MAP@R': score / 2}
    assert append_row(
        project / 'results.csv', {**values, 'updates': 100, 'seconds': 60.0, 'date': '2026-11-28', **changes}
    )


def verdict(project, *arguments):
    return make_verdict.main(['--root', str(project), *arguments])


def test_files_are_filled_once(project):
    assert verdict(project, '--check') == 1 and (project / 'docs/a.md').read_text() == MARKED
    assert verdict(project) == 0 and (project / 'docs/one.png').is_file()
    assert '| 60.0 | 50.50 | 52.25 | +1.75 |' in (project / 'docs/a.md').read_text()
    assert verdict(project, '--check') == 0


@pytest.mark.parametrize(
    'validation, expected', [('false', '60.00 | 52.25'), ('true', 'Not run on grocery, mobilenet-v2: B.')]
)
def test_the_features_themselves_are_no_base_of_scores_on_validation_classes(project, validation, expected):
    source = f'{{file: results.csv, validation: {validation}}}'
    text = COMPARISONS.replace("{'': results.csv}", f'{{o/: {source}}}').replace(
        'base: a, arm: b', 'base: frozen, arm: o/b'
    )
    (project / 'experiments/comparisons.yml').write_text(text)
    assert verdict(project) == 0 and expected in (project / 'docs/a.md').read_text()


@pytest.mark.parametrize('name', ['results.csv', 'frozen.csv'])
def test_a_csv_that_is_not_there_is_named_and_empties_no_table(project, capsys, name):
    verdict(project)
    filled = (project / 'docs/a.md').read_text()
    (project / name).rename(project / 'other.csv')
    for _ in ('missing', 'a folder'):
        assert verdict(project) == 2
        assert f'there is no file {project}/{name}' in capsys.readouterr().err
        assert (project / 'docs/a.md').read_text() == filled
        (project / name).mkdir(exist_ok=True)


def test_old_rows_do_not_count(project):
    since = "{file: results.csv, since: '2026-11-28'}"
    (project / 'experiments/comparisons.yml').write_text(COMPARISONS.replace('results.csv', since))
    add_row(project, Run('a', 'configs/a.py', 7, SET), 90.0, date='2026-11-21')
    add_row(project, Run('b', 'configs/b.py', 7, SET), 10.0)
    add_row(project, Run('b', 'configs/b.py', 1, {**SET, 'k': 1}), 10.0, date='2026-11-21')
    assert verdict(project) == 0
    assert '| 60.0 | 50.50 | 52.25 | +1.75 |' in (project / 'docs/a.md').read_text()


def test_several_rows_of_a_name_and_seed_decide_nothing(project, capsys):
    other = Run('b', 'configs/b.py', 1, {**SET, 'k': 1})
    add_row(project, other, 10.0)
    assert verdict(project) == 2
    error = capsys.readouterr().err
    assert 'results.csv: several runs of seed 1 where one is compared: ' in error
    assert f'{Run("b", "configs/b.py", 1, SET).id} (b) and {other.id} (b, k=1)' in error
    assert (project / 'docs/a.md').read_text() == MARKED
    # Nothing compares this set any more, or this name.
    (project / 'experiments/plan.yml').write_text(PLAN)
    for old, new in (('rows:', 'sets: [features/net/planned]\n    rows:'), ('arm: b', 'arm: a')):
        (project / 'experiments/comparisons.yml').write_text(
            COMPARISONS.replace('    plot: docs/one.png\n', '').replace(old, new)
        )
        assert verdict(project) == 0
    (project / 'experiments/comparisons.yml').write_text(COMPARISONS + '  mean: {mean_of: one}\n')
    assert verdict(project) == 2


def test_a_run_that_stands_twice_decides_nothing(project, capsys):
    lines = (project / 'results.csv').read_text().splitlines(keepends=True)
    (project / 'results.csv').write_text(''.join([*lines, lines[2]]))
    assert verdict(project, '--check') == 2
    twice = Run('a', 'configs/a.py', 1, SET).id
    assert f'seed 1 where one is compared: {twice} (a) and {twice} (a). ' in capsys.readouterr().err


PLAN = """csv: results.csv
items:
  - {name: c, config: configs/c.py, seeds: [0], options: {val_dataloader.dataset.data_root: features/net/planned}}
"""


@pytest.mark.parametrize(
    'old, new, message',
    [
        ('base: a', 'bse: a', r"comparison one: row 0: unknown keys \['bse'\], missing keys \['base'\]; known"),
        ('caption', 'captin', r"comparison one: unknown keys \['captin'\], missing keys \['caption'\]; known"),
        ('results.csv', '{files: results.csv}', r"csv '': unknown keys \['files'\], missing keys \['file'\]; known"),
        ('results.csv', '{file: results.csv, since: 2026-11-28}', "csv '': since must be a date in quotes, such as"),
        ('results.csv', '{file: results.csv, validation: 1}', "csv '': validation must be true or false"),
        ('frozen: frozen.csv', '', r"unknown keys \[\], missing keys \['frozen'\]"),
        (COMPARISONS, '', 'must be a mapping with the keys .*, got None'),
        ('comparisons:', 'frozen: x\ncomparisons:', "no YAML: the key 'frozen' stands twice .*line 3, column 1"),
        ('arm: b}', 'arm: b}\n  one: {}', "no YAML: the key 'one' stands twice .*line 10, column 3"),
        ('arm: b}', 'arm: b}\n  mean: {mean_of: onn}', r"comparison mean: mean_of must be one of \['one'\], got 'onn'"),
        ('arm: b}', 'arm: b}\n      - {label: B, base: b, arm: a}', 'one: several rows have the label B'),
        ('plot: docs', 'curves: docs', r"comparison one: curves need \['x', 'base_line', 'arm_line'\]"),
        ('rows:', 'sets: [features/x]\n    rows:', f"none is called 'features/x'; nearest to it: .*'{DEFAULT_SET}'"),
        ('arm: b', 'arm: bb', r"comparison one: arm of B: .* called 'bb'; nearest to it: \['b', "),
        ('arm: b', 'arm: val/b', "arm of B: .* none is called 'val/b'"),
    ],
)
def test_mistakes_in_the_definitions_are_named_and_nothing_is_written(project, capsys, old, new, message):
    assert old in COMPARISONS
    (project / 'experiments/comparisons.yml').write_text(COMPARISONS.replace(old, new, 1))
    assert verdict(project) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(f'error: .*/comparisons.yml.*{message}.*\n', error), error
    assert (project / 'docs/a.md').read_text() == MARKED


def test_what_stands_in_a_plan_is_not_run_and_no_mistake(project):
    (project / 'experiments/plan.yml').write_text(PLAN)
    content = COMPARISONS.replace('rows:', f'sets: [{DEFAULT_SET}, features/net/planned]\n    rows:')
    (project / 'experiments/comparisons.yml').write_text(content.replace('arm: b', 'arm: c'))
    assert verdict(project) == 0
    assert 'Not run on grocery, mobilenet-v2 and planned, net: B.' in (project / 'docs/a.md').read_text()
    # The plan of another CSV says nothing about this one.
    (project / 'experiments/plan.yml').write_text(PLAN.replace('results.csv', 'other.csv'))
    assert verdict(project) == 2


@pytest.mark.parametrize(
    'old, new, message',
    [
        ('retrieval/MAP@R', 'retrieval/RP', 'run .* has no retrieval/MAP@R'),
        (',51.5,', ',,', r'run \w+ \(b, seed 0\) has no retrieval/Recall@1'),
    ],
)
def test_a_score_that_is_not_there_is_named_by_file_and_run(project, capsys, old, new, message):
    (project / 'results.csv').write_text((project / 'results.csv').read_text().replace(old, new))
    assert verdict(project) == 2
    assert re.fullmatch(f'error: results.csv: {message}\n', capsys.readouterr().err)


@pytest.mark.parametrize(
    'content, message',
    [
        ('name,score\na,1\n', r"line 1: the header lacks \['set', 'Recall@1', 'MAP@R'\]"),
        ('set,Recall@1,MAP@R\na,1,\n', "line 2: MAP@R must be a number, got ''"),
        ('set,Recall@1,MAP@R\na,1\n', 'line 2: MAP@R must be a number, got None'),
        ('set,Recall@1,MAP@R\na,1,2\na,1,2\n', "line 3: must name a set that no other line has, got 'a'"),
    ],
)
def test_mistakes_in_the_scores_of_the_features_are_named(project, capsys, content, message):
    (project / 'frozen.csv').write_text(content)
    assert verdict(project) == 2
    assert re.fullmatch(f'error: .*/frozen.csv, {message}\n', capsys.readouterr().err)


GAIN = '<!-- gain: one; B; Recall@1 -->'


@pytest.mark.parametrize(
    'text, message',
    [
        ('\n<!-- paired: one -->\n', 'line 2: <!-- paired: one --> has no "<!-- /paired -->" after it'),
        (f'{GAIN}1 prose {GAIN}2<!-- /gain -->', f'line 1: {GAIN} has no "<!-- /gain -->" after it'),
        ('<!-- score: a --> x <!-- /gain -->', 'line 1: <!-- score: a --> has no "<!-- /score -->" after it'),
        (f'{GAIN}1<!-- /gain --> <!-- /gain -->', 'line 1: <!-- /gain --> closes nothing: .*'),
        ('<!--paired: one -->\n<!-- /paired -->', 'line 1: <!--paired: one -->: write <!-- paired: one -->'),
        ('<!-- paired: -->\n<!-- /paired -->', 'line 1: <!-- paired: -->: write <!-- paired: NAME -->'),
        ('<!-- gain: one; C; Recall@1 --><!-- /gain -->', r".*one has the labels \['B'\]"),
        ('<!-- gain: two; B; Recall@1 --><!-- /gain -->', r".*comparisons with rows are \['one'\]"),
        ('<!-- gain: one; B --><!-- /gain -->', r"there is no 'one; B': .* one of \['Recall@1', 'MAP@R'\].*"),
        ('<!-- gain: one; B; Recall@1; x/y --><!-- /gain -->', rf".* has the sets \['{DEFAULT_SET}'\], got \['x/y'\]"),
        ('<!-- score: one; B; Recall@1 --><!-- /score -->', r".* one of \['base', 'arm'\], got ''"),
    ],
)
def test_mistakes_in_marks_are_named_by_file_and_nothing_is_written(project, capsys, text, message):
    (project / 'docs/a.md').write_text(text)
    assert verdict(project) == 2
    assert re.fullmatch(f'error: .*/docs/a.md: {message}\n', capsys.readouterr().err)
    assert (project / 'docs/a.md').read_text() == text


def test_a_label_may_have_any_sign(project):
    content = COMPARISONS.replace('label: B', "label: 'K > 1'")
    (project / 'experiments/comparisons.yml').write_text(content)
    (project / 'docs/a.md').write_text('<!-- gain: one; K > 1; Recall@1 --><!-- /gain -->')
    assert verdict(project) == 0
    assert '-->+1.75 [-1.43, +4.93], 2/2<!-- /gain -->' in (project / 'docs/a.md').read_text()


def test_a_coarse_label_that_is_missing_is_named_by_its_line(tmp_path):
    (tmp_path / 'coarse.txt').write_text('apple fruit\n\nleek\n')
    with pytest.raises(ValueError, match=r"coarse.txt, line 3 must have a label and a coarse one, got 'leek'"):
        cluster_semantics.coarse_labels(str(tmp_path / 'coarse.txt'), np.array(['apple']))


@pytest.mark.parametrize('tool', [cluster_semantics, division_negatives])
def test_no_seeds_are_refused(tool, capsys):
    with pytest.raises(SystemExit, match='2'):
        tool.main(['x.npz', 'coarse.txt', '--seeds', '0'])
    assert '--seeds must be at least 1, got 0' in capsys.readouterr().err
