import difflib
import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from metafile_results import measured_result, scored_dataset
from results import append_row

from experiments import Run

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location('make_tables', ROOT / 'tools/analysis_tools/make_tables.py')
make_tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_tables)

README = """# Title

<!-- results: small -->
old
<!-- /results -->

After.
"""

DEFINITIONS = """
csv: results.csv
tables:
  small:
    caption: A caption.
    command: python run.py plan.yml
    columns:
      - {header: R@1, run: base, metric: retrieval/Recall@1}
      - {header: 'R@1, more', run: more, metric: retrieval/Recall@1, digits: 1}
    rows:
      - {label: MS, runs: {base: configs/m/a.py, more: {config: configs/m/a.py, options: {k: 1}}}}
      - {label: Triplet, runs: {base: configs/m/b.py, more: configs/m/c.py}}
"""

METAFILE = """# Head comment.
Collections:
  - Name: M
Models:
  - Name: a   # first
    In Collection: M
    Config: configs/m/a.py
    Results:
      # from the paper
      - Task: Image Retrieval
        Dataset: Omniglot
        Metrics: {Recall@1: 99.0}  # kept as it is
        Source: paper

  # The second model.
  - Name: b
    Config: configs/m/b.py
    In Collection: M   # no result yet
  - Name: c
    In Collection: M
    Config: configs/m/c.py
# tail comment
"""


def test_a_measured_set_is_named_with_its_list_and_deviations_over_draws_are_no_metric(tmp_path):
    config = tmp_path / 'a.py'
    config.write_text("val_dataloader = dict(dataset=dict(type='mmdml.VehicleID', size='small'))\n")
    assert scored_dataset(config) == 'VehicleID (small)'
    row = {'config': 'a.py', 'seed': '0', 'updates': '9', 'commit': 'abcdef123456', 'machine': '2 x CPU'}
    row |= {'retrieval/Recall@1': '80', 'retrieval/Recall@1_std': '0.5'}
    assert measured_result([row], 'VehicleID (small)', {})['Metrics'] == {'Recall@1': 80.0}


def test_photographs_are_named_by_their_set(tmp_path):
    for folder, name in (('cub50', 'CUB200 (50 classes)'), ('cars196_trainhalf', 'Cars196 (half)'), ('x', 'ImageList')):
        config = tmp_path / f'{folder}.py'
        config.write_text(f"val_dataloader = dict(dataset=dict(type='ImageList', data_root='data/{folder}'))\n")
        assert scored_dataset(config) == name


def add_rows(path):
    values = [('configs/m/a.py', 0, {}, 80.0), ('configs/m/a.py', 1, {}, 83.0), ('configs/m/a.py', 2, {}, 81.5)]
    values += [('configs/m/a.py', 0, {'k': 1}, 90.25), ('configs/m/b.py', 4, {}, 70.123)]
    for config, seed, options, score in values:
        add_row(path, Run('n', config, seed, options), score)


def add_row(path, run, score):
    row = {'run': run.id, 'name': run.name, 'config': run.config, 'seed': run.seed, 'options': json.dumps(run.options)}
    row |= {'retrieval/Recall@1': score, 'updates': 100, 'seconds': 60.0 + run.seed, 'commit': 'abcdef123456'}
    assert append_row(path, row | {'torch': '2.13.0', 'machine': '2 x CPU'})


@pytest.fixture
def project(tmp_path):
    """A project with one README, one metafile and five finished runs."""
    (tmp_path / 'experiments').mkdir()
    (tmp_path / 'configs/m').mkdir(parents=True)
    (tmp_path / 'experiments/tables.yml').write_text(DEFINITIONS)
    (tmp_path / 'README.md').write_text(README)
    (tmp_path / 'configs/m/metafile.yml').write_text(METAFILE)
    for name in 'abc':
        (tmp_path / f'configs/m/{name}.py').write_text('val_dataloader = dict(dataset=dict(type="Omniglot"))\n')
    add_rows(tmp_path / 'results.csv')
    return tmp_path


def run(project, *arguments):
    return make_tables.main(['--root', str(project), *arguments])


def test_table_holds_mean_and_sample_standard_deviation_and_how_it_was_made(project):
    assert run(project) == 0
    expected = """# Title

<!-- results: small -->

A caption.

|  | R@1 | R@1, more |
|:--|--:|--:|
| MS | 81.50 ± 1.50 | 90.2 |
| Triplet | 70.12 | not run |

Mean ± sample standard deviation over seeds, n = 1 (seeds 0) or n = 3 (seeds 0, 1, 2) or n = 1 (seeds 4);
scores after the last epoch, 100 updates; 1.0 to 1.1 minutes a run
on 2 x CPU;
commit abcdef123456, torch 2.13.0.
From:

```shell
python run.py plan.yml
```

<!-- /results -->

After.
"""
    assert (project / 'README.md').read_text() == expected


def test_check_reports_what_is_out_of_date_and_writes_nothing(project, capsys):
    assert run(project, '--check') == 1
    assert (project / 'README.md').read_text() == README
    assert [line.split('/')[-1] for line in capsys.readouterr().out.splitlines()] == ['README.md', 'metafile.yml']
    run(project)
    assert run(project, '--check') == 0
    run_of_new_seed = Run('n', 'configs/m/b.py', 5)
    old = make_tables.read_rows(project / 'results.csv')[-1]
    append_row(project / 'results.csv', {**old, 'run': run_of_new_seed.id, 'seed': 5})
    assert run(project, '--check') == 1


def test_metafile_gets_measured_results_and_keeps_everything_else(project):
    run(project)
    path = project / 'configs/m/metafile.yml'
    text = path.read_text()
    assert not [line for line in difflib.ndiff(METAFILE.splitlines(), text.splitlines()) if line.startswith('- ')]
    models = yaml.safe_load(text)['Models']
    measured, paper = models[0]['Results']
    assert paper == {
        'Task': 'Image Retrieval',
        'Dataset': 'Omniglot',
        'Metrics': {'Recall@1': 99.0},
        'Source': 'paper',
    }
    assert measured == {
        'Task': 'Image Retrieval',
        'Dataset': 'Omniglot',
        'Metrics': {'Recall@1': 81.5},
        'Std': {'Recall@1': 1.5},
        'Source': 'measured',
        'Seeds': [0, 1, 2],
        'Updates': [100],
        'Commit': 'abcdef123456',
        'Hardware': '2 x CPU',
        'Command': 'python tools/train.py configs/m/a.py --cfg-options randomness.seed=0',
    }
    assert models[1]['Results'][0]['Metrics'] == {'Recall@1': 70.12}
    assert 'Results' not in models[2]
    run(project)
    assert path.read_text() == text


def test_metafile_replaces_an_old_measured_result_only(project):
    run(project)
    path = project / 'configs/m/metafile.yml'
    right = path.read_text()
    path.write_text(right.replace('81.5', '12.3'))
    run(project)
    assert path.read_text() == right


@pytest.mark.parametrize('empty', ['Results: []', 'Results:'])
def test_metafile_fills_an_empty_results_key(project, empty):
    path = project / 'configs/m/metafile.yml'
    path.write_text(f'Models:\n- Name: b\n  {empty}\n  Config: configs/m/b.py\n')
    run(project)
    (model,) = yaml.safe_load(path.read_text())['Models']
    assert [result['Metrics'] for result in model['Results']] == [{'Recall@1': 70.12}]
    assert model['Config'] == 'configs/m/b.py'


TRAINING = {
    'command': 'python tools/train.py configs/m/b.py --cfg-options randomness.seed=7',
    'commit': 'abcdef123456',
    'precision': 'fp16',
    'tests': [
        {'scored_on': '9 pictures', 'command': 'python tools/test.py b', 'scores': {'Recall@1': 50.0}},
        {'scored_on': '5 pictures', 'command': f'python tools/test.py b {"x" * 200}', 'scores': {'Recall@1': 60.0}},
    ],
}


def ship(project, folder, training):
    path = project / 'mmdml/shipped' / folder
    path.mkdir(parents=True)
    (path / 'model.json').write_text(json.dumps({'weights_hash': '12345678abcd', 'training': training}))
    return path


def test_metafile_gets_the_hash_of_shipped_weights_and_loses_it_with_them(project):
    run(project)
    path = project / 'configs/m/metafile.yml'
    bare = path.read_text()
    old = ship(project, 'b-00000000', TRAINING)
    run(project)
    folder = old.rename(project / 'mmdml/shipped/b-12345678')
    run(project)
    text = path.read_text()
    assert not [line for line in difflib.ndiff(bare.splitlines(), text.splitlines()) if line.startswith('- ')]
    assert [model.get('Shipped') for model in yaml.safe_load(text)['Models']] == [
        None,
        {
            'Weights': 'mmdml/shipped/b-12345678/weights.pth',
            'SHA256': '12345678abcd',
            'Precision': 'fp16',
            'Seed': 7,
            'Commit': 'abcdef123456',
            'Command': TRAINING['command'],
            'Tests': [
                {'Scored on': each['scored_on'], 'Metrics': each['scores'], 'Command': each['command']}
                for each in TRAINING['tests']
            ],
        },
        None,
    ]
    assert run(project, '--check') == 0
    shutil.rmtree(folder)
    run(project)
    assert path.read_text() == bare


def test_shipped_weights_of_an_unknown_seed_are_named(project, capsys):
    ship(project, 'b-12345678', {**TRAINING, 'command': 'python train.py'})
    assert run(project) == 2
    assert 'its training command names no randomness.seed: python train.py' in capsys.readouterr().err


@pytest.mark.parametrize(
    'text, message',
    [
        ('<!-- results: other -->\n<!-- /results -->\n', r"README.md: no table 'other'; .* \['small'\]"),
        ('<!-- results: small -->\n', 'README.md: .* has no "<!-- /results -->"'),
        ('<!-- results: small -->\n<!-- results: small -->\n<!-- /results -->', 'has no "<!-- /results -->"'),
    ],
)
def test_bad_markers_are_named(project, capsys, text, message):
    (project / 'README.md').write_text(text)
    assert run(project) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_note_on_a_commit_stands_below_every_figure_measured_there(project):
    path = project / 'experiments/tables.yml'
    path.write_text(DEFINITIONS + 'notes: {abcdef123456: To be measured again., 123456abcdef: Not this.}\n')
    assert run(project) == 0
    assert 'torch 2.13.0.\nTo be measured again.\nFrom:' in (project / 'README.md').read_text()
    models = yaml.safe_load((project / 'configs/m/metafile.yml').read_text())['Models']
    assert models[0]['Results'][0]['Note'] == 'To be measured again.'
    assert 'Not this' not in (project / 'README.md').read_text()


SORTED = """
csv: results.csv
tables:
  small:
    caption: A caption.
    command: python run.py plan.yml
    sort: [R@1]
    columns:
      - {header: R@1, run: run, metric: retrieval/Recall@1}
      - {header: j = 2, run: run, metric: retrieval/Recall@1, options: {j: 2}}
    rows:
      - {label: none, runs: {run: {name: o}}}
      - {label: b, runs: {run: configs/m/b.py}}
      - {label: item, runs: {run: {name: m, options: {k: 1}}}}
      - {label: updates, runs: {run: {name: m, metric: updates}}}
"""


def test_rows_of_an_item_have_at_least_the_options_of_run_and_column_and_are_sorted(project):
    (project / 'experiments/plan.yml').write_text('items: [{name: o, config: configs/m/o.py, seeds: [0]}]\n')
    for seed, options in ((0, {'k': 1, 'i': 3}), (1, {'k': 1, 'j': 2})):
        add_row(project / 'results.csv', Run('m', 'configs/m/a.py', seed, options), 90.0 + seed)
    (project / 'experiments/tables.yml').write_text(SORTED)
    assert run(project) == 0
    cells = [line for line in (project / 'README.md').read_text().splitlines() if line.startswith('| ')][1:]
    assert cells == [
        '| updates | 100.00 ± 0.00 | 100.00 |',
        '| item | 90.50 ± 0.71 | 91.00 |',
        '| b | 70.12 | not run |',
        '| none | not run | not run |',
    ]


def test_several_rows_of_a_seed_in_a_cell_are_named(project, capsys):
    # Under one name: seed 0 of a.py without options and with k = 1.
    (project / 'experiments/tables.yml').write_text(SORTED.replace('name: o', 'name: n').replace('name: m', 'name: n'))
    assert run(project) == 2
    error = capsys.readouterr().err
    assert 'README.md: table small: n: several runs of seed 0' in error
    assert f'{Run("n", "configs/m/a.py", 0).id} (n) and ' in error
    assert f'{Run("n", "configs/m/a.py", 0, {"k": 1}).id} (n, k=1). Give' in error
    assert (project / 'README.md').read_text() == README


def test_a_run_that_stands_twice_makes_no_table_and_no_metafile(project, capsys):
    lines = (project / 'results.csv').read_text().splitlines(keepends=True)
    (project / 'results.csv').write_text(''.join([*lines, lines[1]]))
    twice = f'{Run("n", "configs/m/a.py", 0).id} (n) and {Run("n", "configs/m/a.py", 0).id} (n)'
    for _ in ('README.md', 'configs/m/metafile.yml'):
        assert run(project) == 2
        assert f'configs/m/a.py: several runs of seed 0 where one is compared: {twice}' in capsys.readouterr().err
        (project / 'README.md').unlink(missing_ok=True)
    assert (project / 'configs/m/metafile.yml').read_text() == METAFILE


@pytest.mark.parametrize(
    'old, new, message',
    [
        ('csv: results.csv', 'csv: 5', 'tables.yml: csv must be a text or a list of texts, got 5'),
        ('caption: A caption.', 'caption: [A]', r"table small: caption must be a text, got \['A'\]"),
        ('caption: A caption.', 'title: A', r"table small: unknown keys \['title'\], missing keys \['caption'\]"),
        ('digits: 1}', 'digits: one}', "column 1: digits must be a whole number, got 'one'"),
        ('base: configs/m/a.py, ', '', r'row 0: run base: must be a mapping with the keys .*, got None'),
        ('{config: configs/m/a.py, options: {k: 1}}', '7', 'row 0: run more: must be a mapping .*, got 7'),
        ('more: {config: configs/m/a.py,', 'more: {', 'row 0: run more: must have a config, or the name of an item'),
        ('    columns:', '    sort: [R@2]\n    columns:', r"sort names \['R@2'\], which are no headers"),
        ('tables:', 'tables: [', 'tables.yml is no YAML'),
    ],
)
def test_faulty_definitions_are_named_by_file_table_and_key(project, capsys, old, new, message):
    path = project / 'experiments/tables.yml'
    assert old in DEFINITIONS
    path.write_text(DEFINITIONS.replace(old, new, 1))
    assert run(project) == 2
    assert re.search(message, capsys.readouterr().err)
    assert (project / 'README.md').read_text() == README


def test_an_installed_package_without_experiments_is_told_where_tables_are_made(tmp_path, capsys):
    assert run(tmp_path) == 2
    assert 'result tables are made in a checkout of mmdml, not in an installed package' in capsys.readouterr().err


def test_a_broken_table_of_results_is_named_and_changes_nothing(project, capsys):
    data = (project / 'results.csv').read_bytes()
    (project / 'results.csv').write_bytes(data[:-2])
    assert run(project) == 2
    assert 'results.csv, line 6: ' in capsys.readouterr().err
    assert (project / 'README.md').read_text() == README


@pytest.mark.parametrize(
    'old, new, message',
    [
        ('base: configs/m/a.py', 'base: configs/m/aa.py', "row MS: run base: .* called 'configs/m/aa.py'; nearest"),
        ('base: configs/m/a.py', 'base: {name: m}', r"row MS: run base: .* called 'm'; nearest to it: \['n'\]"),
        ('retrieval/Recall@1}', 'retrieval/Recall@11}', r'MS, R@1: run \w+ \(n, seed 0\) has no retrieval/Recall@11'),
    ],
)
def test_runs_and_metrics_that_are_nowhere_are_named(project, capsys, old, new, message):
    assert old in DEFINITIONS
    (project / 'experiments/tables.yml').write_text(DEFINITIONS.replace(old, new, 1))
    assert run(project) == 2
    assert re.search(message, capsys.readouterr().err)
    assert (project / 'README.md').read_text() == README


def test_updates_that_are_no_whole_number_are_named(project, capsys):
    path, content = project / 'results.csv', (project / 'results.csv').read_text()
    path.write_text(content.replace(',100,', ',6.0,', 1))
    assert run(project) == 2
    assert "results.csv, line 2: updates must be a whole number, got '6.0'" in capsys.readouterr().err
    path.write_text(content.replace(',100,', ',,', 1))
    for where in ('README.md: table small: MS, R@1', 'configs/m/a.py'):
        assert run(project) == 2
        assert f'{where}: run 35cf8a28d3b0 (n, seed 0) has no updates' in capsys.readouterr().err
        (project / 'README.md').unlink(missing_ok=True)


def test_a_table_of_results_that_is_not_there_is_named_and_changes_nothing(project, capsys):
    run(project)
    filled = (project / 'README.md').read_text()
    (project / 'results.csv').rename(project / 'result.csv')
    for arguments in ((), ('--check',)):
        assert run(project, *arguments) == 2
        assert f'there is no file {project}/results.csv' in capsys.readouterr().err
    assert (project / 'README.md').read_text() == filled


def test_tables_of_this_project_are_up_to_date():
    assert run(ROOT, '--check') == 0
