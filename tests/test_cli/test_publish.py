"""``mmdml publish``: weights only, named by their hash, with the scores of what was written."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tiny import tiny_config

from mmdml.apis import get_model
from mmdml.apis.model_folder import ModelFolder
from mmdml.cli.main import main


def mmdml(*arguments, status=0):
    done = CliRunner().invoke(main, [str(each) for each in arguments])
    assert done.exit_code == status, done.output
    return done


@pytest.fixture(scope='module')
def source(pictures, tmp_path_factory):
    """Name of a small model with a head, an optimizer and paths of this machine in its checkpoint."""
    folder = tmp_path_factory.mktemp('source')
    cfg = tiny_config(pictures, folder)
    cfg.dump(str(folder / 'tiny.py'))
    torch.manual_seed(0)
    state = get_model(cfg).state_dict()
    torch.save(dict(state_dict=state, optimizer=dict(a=torch.ones(9)), meta=dict(path='/home/me')), folder / 'e.pth')
    return f'{folder}/tiny.py:{folder}/e.pth'


def test_what_is_published_is_small_named_by_its_weights_and_scored_as_written(source, pictures, tmp_path):
    (tmp_path / 'MIT').write_text('Permission is hereby granted')
    arguments = ['publish', source, '--name', 'blobs', '--out', tmp_path / 'out', '--test', pictures, '--config-test']
    few = f'test_dataloader.dataset.ann_file={tmp_path}/few.txt test_dataloader.dataset.type=ImageList'
    arguments += ['--config-test', few, '--config-test', few]
    few_pictures = sorted(Path(pictures).glob('*/*.png'))[:10]
    (tmp_path / 'few.txt').write_text(''.join(f'{path} {path.parent.name}\n' for path in few_pictures))
    arguments += ['--license', f'pictures={tmp_path}/MIT', '--data', 'blobs on black', '--limit', 'Blobs only.']
    path = Path(mmdml(*arguments).stdout.strip())
    digest = hashlib.sha256((path / 'weights.pth').read_bytes()).hexdigest()
    assert path == tmp_path / f'out/blobs-{digest[:8]}' and [each.name for each in path.parent.iterdir()] == [path.name]
    saved = torch.load(path / 'weights.pth')
    assert set(saved) == {'state_dict'} and '/home/me' not in (path / 'weights.pth').read_bytes().decode('latin-1')
    assert {each.dtype for each in saved['state_dict'].values()} == {torch.float16, torch.int64}
    assert (path / 'licenses/pictures.txt').read_text().startswith('Permission')

    folder = ModelFolder.read(path)
    # Runs of the same second do not meet.
    test, of_config, of_few, again = folder.training['tests']
    assert again == of_few
    found = json.loads(mmdml('test', pictures, '--model', path, '--json').stdout)
    assert test['scores'] == {name: round(value, 2) for name, value in found['scores'].items()}
    assert of_config['scored_on'] == '36 pictures of 8 classes (ImageFolder, test)'
    assert of_config['scores'] == pytest.approx(test['scores'], abs=0.011)
    assert of_config['command'] == 'python tools/test.py blobs'
    assert of_few['scored_on'].startswith('10 pictures of ') and of_few['scored_on'].endswith(' (ImageList, test)')
    assert of_few['command'] == f'python tools/test.py blobs --cfg-options {few}'
    card = (path / 'README.md').read_text()
    for text in ('# blobs\n', '36 pictures of 8 classes', 'blobs on black', 'Blobs only.', 'licenses/pictures.txt'):
        assert text in card
    assert f'| MAP@R | {test["scores"]["MAP@R"]:.2f} |' in card and f'mmdml test {pictures} --model blobs' in card
    assert 'published under this name' in mmdml(*arguments, status=1).stderr


def test_a_model_that_is_published_again_keeps_licenses_limits_scores_and_hash(source, pictures, tmp_path):
    (tmp_path / 'MIT').write_text('Permission is hereby granted')
    (tmp_path / 'BSD').write_text('Redistribution and use')
    first = ('publish', source, '--name', 'blobs', '--out', tmp_path / 'first', '--license', f'pictures={tmp_path}/MIT')
    path = Path(mmdml(*first, '--limit', 'Blobs only.', '--test', pictures).stdout.strip())
    weights = torch.load(path / 'weights.pth')['state_dict']
    assert list(weights) == sorted(weights)
    # A folder as it was written earlier: the keys in another order, and so another hash.
    torch.save(dict(state_dict=dict(reversed(weights.items()))), path / 'weights.pth')
    facts = json.loads((path / 'model.json').read_text())
    facts['weights_hash'] = hashlib.sha256((path / 'weights.pth').read_bytes()).hexdigest()
    (path / 'model.json').write_text(json.dumps(facts))

    again = ('publish', path, '--out', tmp_path / 'again', '--license', f'weights={tmp_path}/BSD', '--limit', 'Small.')
    second = Path(mmdml(*again).stdout.strip())
    assert second.name == path.name
    card = (second / 'README.md').read_text()
    for text in ('- Small.\n- Blobs only.\n', '- pictures: `licenses/pictures.txt`\n- weights: `licenses/weights.txt`'):
        assert text in card
    assert card.count('Blobs only.') == card.count('Not for decisions about people.') == 1
    assert (second / 'licenses/pictures.txt').read_text().startswith('Permission')
    assert ModelFolder.read(second).training['tests'] == facts['training']['tests'] != []
    assert ModelFolder.read(second).model_hash == facts['model_hash']
    # Other weights have neither its scores nor its licenses.
    checkpoint = source.rpartition(':')[2]
    state = {key: value + 1 for key, value in torch.load(checkpoint)['state_dict'].items()}
    torch.save(dict(state_dict=state), tmp_path / 'other.pth')
    other = Path(mmdml('publish', f'{path}:{tmp_path}/other.pth', '--out', tmp_path / 'other').stdout.strip())
    assert ModelFolder.read(other).training['tests'] == [] and not (other / 'licenses').exists()


def test_scores_of_a_training_are_marked_where_weights_are_rounded(source, tmp_path):
    path = Path(mmdml('publish', source, '--name', 'blobs', '--out', tmp_path / 'full', '--full').stdout.strip())
    content = json.loads((path / 'model.json').read_text())
    content['training'] |= dict(scored_on='9 pictures', scores={'Recall@1': [50.0, 60.0]})
    (path / 'model.json').write_text(json.dumps(content))
    rounded = 'Scores on 9 pictures by the weights of the training, before rounding to fp16, in percent:'
    for option, marked in (('--full', False), ('--half', True)):
        copy = Path(mmdml('publish', path, '--out', tmp_path / option, option).stdout.strip())
        assert (rounded in (copy / 'README.md').read_text()) is marked
    # Published again, they are marked once.
    again = Path(mmdml('publish', copy, '--out', tmp_path / 'again').stdout.strip())
    assert (again / 'README.md').read_text().count(rounded) == 1


def test_a_weight_beyond_half_precision_is_named_and_nothing_is_written(source, tmp_path):
    checkpoint = torch.load(source.rpartition(':')[2])
    key = next(key for key in checkpoint['state_dict'] if key.endswith('running_var'))
    checkpoint['state_dict'][key] = torch.full_like(checkpoint['state_dict'][key], 7e4)
    torch.save(checkpoint, tmp_path / 'large.pth')
    publish = ('publish', f'{source.partition(":")[0]}:{tmp_path}/large.pth', '--out', tmp_path / 'out')
    error = mmdml(*publish, status=1).stderr
    assert f'error: {key} has the value 70000, above 65504' in error and '--full' in error
    assert not (tmp_path / 'out').exists()
    assert Path(mmdml(*publish, '--full').stdout.strip()).is_dir()


def test_mistakes_end_in_a_line_before_anything_is_written(source, tmp_path):
    publish = ('publish', source, '--out', tmp_path / 'out')
    assert 'write NAME=FILE' in mmdml(*publish, '--license', 'LICENSE', status=1).stderr
    assert 'there is no such file' in mmdml(*publish, '--license', 'a=none', status=1).stderr
    assert 'there is no folder or list' in mmdml(*publish, '--test', 'none', status=1).stderr
    for name in ('../esc', '/abs', 'a/b', 'a\\b', 'a:b', '.hidden', '-x', '', 'a\nb'):
        assert 'cannot be the name of a model' in mmdml(*publish, f'--name={name}', status=1).stderr, name
    bare = mmdml('publish', source.partition(':')[0], '--out', tmp_path / 'out', status=1).stderr
    assert 'no weights were published' in bare and not (tmp_path / 'out').exists()
