"""``mmdml evaluate``, ``prepare`` and ``verify``: the functions of the tools, with one way to end."""

import argparse
import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from mmdml.cli.embedding_scores import parse_args
from mmdml.cli.evaluate import CHOICES, _arguments, evaluate
from mmdml.cli.main import main
from mmdml.evaluation.functional.options import CHOICES as KNOWN
from mmdml.evaluation.functional.options import SearchOptions


def run(*arguments, code=0):
    done = CliRunner().invoke(main, [*map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def embeddings(tmp_path):
    random = np.random.default_rng(0)
    labels = np.arange(30) % 3
    np.savez(
        tmp_path / 'x.npz', embeddings=random.normal(size=(3, 6))[labels] + random.normal(size=(30, 6)), labels=labels
    )
    return tmp_path / 'x.npz'


def test_choices_of_the_command_are_those_of_the_search():
    assert CHOICES == {name: tuple(known) for name, known in KNOWN.items()}
    defaults = SearchOptions()
    assert all(getattr(defaults, name) == known[0] for name, known in CHOICES.items())


def test_the_command_has_every_option_of_the_tool(monkeypatch):
    parsers = []
    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', lambda parser, arguments: parsers.append(parser))
    parse_args([])
    flags = {flag for action in parsers[0]._actions for flag in action.option_strings} - {'-h', '--help'}
    assert flags == {flag for option in evaluate.params for flag in option.opts if flag.startswith('-')}


def test_evaluate_prints_what_the_tool_prints(embeddings):
    arguments = (embeddings, '--metrics', 'MAP@R', '--clustering', 'NMI', '--rerank', '--expand', 'k=3 alpha=1.0')
    found = run('evaluate', *arguments, '--recall-at', '1,5', '--json', '-').stdout
    tool = [sys.executable, 'tools/analysis_tools/eval_embeddings.py', embeddings, '--recall-at', '1', '5']
    tool += ['--metrics', 'MAP@R', '--clustering', 'NMI', '--rerank', '--expand', 'k=3', 'alpha=1.0', '--json', '-']
    done = subprocess.run(list(map(str, tool)), capture_output=True, text=True, check=True)
    assert json.loads(found) == json.loads(done.stdout)
    assert {'Recall@1', 'Recall@5', 'MAP@R', 'NMI'} <= set(json.loads(found)['scores'])
    assert 'Recall@8' in run('evaluate', embeddings).stdout


def test_evaluate_ends_in_one_line_with_the_remedy(embeddings):
    done = run('evaluate', embeddings, '--metrics', 'Recal@K', code=1)
    assert done.stderr.startswith('error: ') and "did you mean 'Recall@K'?" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert 'no file' in run('evaluate', 'nowhere.npz', code=1).stderr
    run('evaluate', embeddings, '--ties', 'random', code=2)


def test_bare_settings_take_defaults_and_lists_may_have_commas_or_blanks():
    args = _arguments(dict(file='-x', rerank='', recall_at='1, 2 4', metrics='mAP,RP', debug=False, labels=None))
    assert (args.file, args.rerank, args.recall_at, args.metrics) == ('-x', [], [1, 2, 4], ['mAP', 'RP'])
    assert args.labels is None and args.distance == 'cosine'


@pytest.mark.parametrize(
    'option, value, words',
    [
        ('--protocol', 'SingleGalleryShot repeat=3', "argument 'repeat'"),
        ('--protocol', 'SingleGalleryShot seed=x', "seed must be an integer of 0 or more, got 'x'"),
        ('--protocol', 'SingleGalleryShot repeats=2.0', 'repeats must be an integer of at least 1, got 2.0'),
        ('--expand', 'k=3.0', 'k must be an integer of at least 1, got 3.0'),
        ('--expand', 'k=1_0', "k must be an integer of at least 1, got '1_0'"),
        ('--expand', 'alpha=inf', "alpha must be 0 or more, got 'inf'"),
        ('--whiten', 'dim=2.0', 'dim must be an integer of at least 1, got 2.0'),
        ('--whiten', 'fit=3', 'fit must be'),
        ('--rerank', 'weight=nan', "weight (lambda) must be in [0, 1], got 'nan'"),
        ('--rerank', 'k1=20.0', 'k1 must be an integer of at least 1, got 20.0'),
        ('--verification', 'fpr=0.1,', "'fpr=0.1,' lacks a value beside a comma"),
        ('--verification', 'fpr=x', "fpr must hold rates in (0, 1], got ['x']"),
        ('--verification', 'fpr={1:[]}', 'fpr must hold rates in (0, 1]'),
        ('--consistency', 'fpr_range=0.1,x', "two rising rates in (0, 1], got [0.1, 'x']"),
        ('--consistency', 'points=9.5', 'points must be an integer and at least 2, got 9.5'),
        ('--graded', 'levels=coarse k=x', "k must be at least 1, or several such ranks, got 'x'"),
        ('--graded', 'levels=1', 'levels and label_sets are names of columns, got 1'),
        ('--clustering', 'NMI seed=1.5', 'seed must be an integer, got 1.5'),
        ('--clustering', 'iterations=x', "iterations must be an integer and at least 1, got 'x'"),
        ('--device', 'meta', 'cannot be used'),
        ('--recall-at', '9999999999999999999999', 'recall_at must hold integers of at most 2147483647'),
        ('--recall-at', '1.5', 'must be a whole number'),
        ('--recall-at', '1_0', 'must be a whole number'),
        ('--recall-at', '', 'there is nothing in it'),
        ('--widths', 'x', 'must be a whole number'),
        ('--metrics', '', 'there is nothing in it'),
        ('--metrics', '-x', "unknown metrics ['-x']"),
        ('--json', '', 'there is nothing in it'),
        ('--labels', '', 'there is nothing in it'),
    ],
)
def test_wrong_values_end_in_one_line_with_option_and_value(embeddings, option, value, words):
    (line,) = run('evaluate', embeddings, option, value, code=1).stderr.strip().splitlines()
    assert line.startswith(f'error: {option} {value or repr(value)}')
    assert words in line


def test_an_option_is_not_blamed_for_what_two_do_together(embeddings):
    done = run('evaluate', embeddings, '--rerank', '--distance', 'dot', code=1)
    assert done.stderr.startswith("error: re-ranking needs one of the distances ['cosine', 'euclidean'], got 'dot'")


def test_verify_says_what_is_off_and_leaves_with_it(pictures, tmp_path):
    dataset = dict(type='ImageFolder', data_root=pictures)
    config = tmp_path / 'mine.py'
    config.write_text(f'train_dataloader = dict(dataset={dataset!r})\n')
    (report,) = json.loads(run('verify', config, '--json').stdout)
    assert report['ok'] and report['images']['opened'] == 36
    assert '36 images open, 0 do not' in run('verify', config).stdout
    (tmp_path / 'pictures/a').mkdir(parents=True)
    (tmp_path / 'pictures/a/1.jpg').write_text('no picture')
    config.write_text(f'train_dataloader = dict(dataset={dict(dataset, data_root=str(tmp_path / "pictures"))!r})\n')
    assert '1 do not' in run('verify', config, code=1).stdout
    nothing = run('verify', 'CUB200', '--data-root', tmp_path, code=1).stdout.splitlines()
    assert len(nothing) == 1 and nothing[0].startswith('CUB200 looks for images.txt')
    assert 'Invalid value' in run('verify', config, '--max-pixels', -1, code=2).output
    done = run('verify', 'CUB20', code=1)
    assert done.stderr.startswith('error: CUB20: ') and 'CUB200' in done.stderr


def test_a_loader_that_takes_some_images_of_a_class_does_not_make_a_benchmark_wrong(tmp_path):
    config = tmp_path / 'mine.py'
    config.write_text("train_dataloader = dict(dataset=dict(type='Omniglot', max_per_class=5, images_seed=1))")
    assert '19,280    19,280  ok' in run('verify', config, '--no-images').stdout


def test_features_are_verified_without_their_pictures(tmp_path):
    paths = [f'https://nowhere.invalid/{n}.jpg' for n in range(4)]
    np.savez(tmp_path / 'f.npz', embeddings=np.eye(4, dtype=np.float32), labels=[0, 0, 1, 1], paths=paths)
    config = tmp_path / 'features.py'
    config.write_text(
        f"train_dataloader = dict(dataset=dict(type='FeatureFile', ann_file={str(tmp_path / 'f.npz')!r}))"
    )
    done = CliRunner().invoke(main, ['verify', str(config)])
    assert done.exit_code == 0, done.output
    assert 'note: these are features; images that their paths name are not opened' in done.output
    assert 'images open' not in done.output


def test_prepare_lists_recipes_and_names_the_nearest(tmp_path):
    assert 'CUB_200_2011.tgz' in run('prepare', '--list').stdout
    done = run('prepare', 'CUB20', tmp_path, tmp_path / 'out', code=1)
    assert done.stderr.startswith("error: there is no recipe 'CUB20'") and "did you mean 'CUB200'?" in done.stderr
    assert '--list' in run('prepare', 'CUB200', code=2).stderr
    done = run('prepare', 'CUB200', tmp_path / 'nothing.tgz', tmp_path / 'out', code=1)
    assert done.stderr.startswith('error: ') and not (tmp_path / 'out').exists()


def test_options_without_effect_are_refused(pictures, tmp_path):
    for flags in (['--skip-checks'], ['--list'], ['--max-gigabytes', 3]):
        error = run('prepare', '--resize', 16, *flags, pictures, tmp_path / 'small', code=2).stderr
        assert f'{flags[0]} is for official files, not for --resize.' in error
        assert not (tmp_path / 'small').exists()
    error = run('browse', pictures, '--out', tmp_path / 'sheets', '--phase', 'train', code=1).stderr
    assert error == 'error: --phase chooses a loader of a config, and a folder has none.\n'
    error = run('browse', pictures, '--out', tmp_path / 'sheets', '--epoch', -1, code=2).stderr
    assert "Invalid value for '--epoch'" in error and not (tmp_path / 'sheets').exists()
