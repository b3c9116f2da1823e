"""How far another machine moves scores, against values worked out by hand."""

import json
import re
from pathlib import Path

import compare_machines
import pytest

ROOT = Path(__file__).parents[2]


def row(name, seed, recall, where='features/net/set_a'):
    options = json.dumps({'val_dataloader.dataset.data_root': where})
    scores = {'retrieval/Recall@1': str(recall), 'retrieval/MAP@R': str(recall / 2)}
    return {
        'run': f'{where}-{name}-{seed}',
        'config': 'a.py',
        'config_hash': 'h',
        'name': name,
        'seed': str(seed),
        'options': options,
        **scores,
    }


FIRST = [*(row('a', seed, 50) for seed in range(3)), *(row('b', seed, 60) for seed in range(3))]
#: a moves by 0, +1, -3 and b by +2, +1; the last run is of another set, which the first machine has not.
SECOND = [
    row('a', 0, 50),
    row('a', 1, 51),
    row('a', 2, 47),
    row('b', 0, 62),
    row('b', 1, 61),
    row('b', 1, 61, 'features/net/elsewhere'),
]


def test_differences_of_shared_runs():
    lines = compare_machines.table(FIRST, SECOND).splitlines()
    assert len(lines) == 3
    # 0, 1, -3, 2, 1: mean 0.2, deviation sqrt(14.8 / 4) = 1.92; MAP@R is half of it.
    assert lines[2] == '| set_a, net | a score | 5 | 1 | +0.20 | 1.92 | 3.00 | +0.10 | 0.96 | 1.50 |'


def test_a_run_is_equal_where_all_its_scores_are():
    second = [{**SECOND[0], 'retrieval/MAP@R': '25.5'}, *SECOND[1:]]
    assert '| a score | 5 | 0 | +0.20 | 1.92 | 3.00 | +0.20 |' in compare_machines.table(FIRST, second)


def test_differences_of_pairs_need_both_runs():
    lines = compare_machines.table(FIRST, SECOND, [('a', 'b')]).splitlines()
    # Seeds 0 and 1: 2 - 0 and 1 - 1.
    assert lines[3] == '| set_a, net | b - a | 2 | 1 | +1.00 | 1.41 | 2.00 | +0.50 | 0.71 | 1.00 |'


def test_nothing_in_common_is_refused():
    with pytest.raises(ValueError, match='no run in common'):
        compare_machines.table(FIRST, [row('c', 0, 1)])


def test_runs_of_one_name_are_all_counted_and_make_no_pair():
    # Two values of an option under one name and seed: both moved, by 1 and by 3.
    first = [*FIRST, dict(row('a', 0, 70), run='other options')]
    second = [row('a', 0, 51), dict(row('a', 0, 73), run='other options'), row('b', 0, 60)]
    assert '| a score | 3 | 1 | +1.33 |' in compare_machines.table(first, second)
    message = r'b - a: several runs of seed 0 .*features/net/set_a-a-0 \(a\) and other options \(a\)'
    with pytest.raises(ValueError, match=message):
        compare_machines.table(first, second, [('a', 'b')])


def test_a_run_that_a_file_has_twice_is_named():
    twice = [*FIRST, row('b', 1, 61)]
    message = r'file: several runs of seed 1 .*: features/net/set_a-b-1 \(b\) and features/net/set_a-b-1 \(b\)'
    for order, where in (((twice, SECOND), 'first'), ((SECOND, twice), 'second')):
        with pytest.raises(ValueError, match=f'{where} {message}'):
            compare_machines.table(*order)
    # The other file has not the run: nothing is compared.
    elsewhere = [*FIRST, row('z', 1, 61), row('z', 1, 62)]
    assert compare_machines.table(elsewhere, SECOND) == compare_machines.table(FIRST, SECOND)


@pytest.mark.parametrize(
    'pair, message',
    [
        (('a', 'zz'), r"pair a zz: .* none is called 'zz'; nearest to it: \['"),
        (('c', 'a'), 'pair c a: both files have no set and seed with a run of each'),
    ],
)
def test_a_pair_that_is_not_there_is_named(pair, message):
    other = row('c', 9, 61)
    with pytest.raises(ValueError, match=message):
        compare_machines.table([*FIRST, other], [*SECOND, other], [pair])


def test_a_score_that_is_not_there_is_named():
    empty = [*SECOND[:1], {**row('b', 1, 61), 'retrieval/MAP@R': ''}]
    with pytest.raises(ValueError, match=r'second file: run \S+-b-1 \(b, seed 1\) has no retrieval/MAP@R'):
        compare_machines.table(FIRST, empty)


def test_another_version_of_a_config_is_another_run():
    with pytest.raises(ValueError, match='no run in common'):
        compare_machines.table(FIRST, [dict(row('a', 0, 51), config_hash='later')])


def test_a_file_that_is_not_there_is_named(tmp_path, capsys):
    (tmp_path / 'folder').mkdir()
    known = str(ROOT / 'experiments/results_val.csv')
    for path in (tmp_path / 'nothing.csv', tmp_path / 'folder'):
        with pytest.raises(SystemExit, match='2'):
            compare_machines.main([known, str(path)])
        assert f'error: there is no file {path}\n' in capsys.readouterr().err


def test_a_mistake_in_a_file_is_named_by_the_file(tmp_path, capsys):
    known = ROOT / 'experiments/results_val.csv'
    lines = known.read_text().splitlines(keepends=True)
    (tmp_path / 'twice.csv').write_text(''.join([*lines, lines[1]]))
    with pytest.raises(SystemExit, match='2'):
        compare_machines.main([str(known), str(tmp_path / 'twice.csv')])
    assert f'error: {tmp_path}/twice.csv: several runs of seed ' in capsys.readouterr().err


def test_the_tables_of_the_protocol_are_those_of_its_commands(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    page = (ROOT / 'docs/protocol.md').read_text()
    commands = re.findall(r'^python tools/analysis_tools/compare_machines.py (.+)$', page, flags=re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert compare_machines.main(command.split()) == 0
        assert capsys.readouterr().out.strip() in page
