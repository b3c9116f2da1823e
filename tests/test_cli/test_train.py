"""``mmdml train`` and ``mmdml test`` on a folder: one folder comes out that is the model; mistakes end in a line."""

import json
import shutil
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from mmengine.config import Config
from mmengine.visualization import Visualizer
from tiny import REPO, tiny_config

from mmdml.apis import ImageEmbeddingInferencer
from mmdml.apis.model_folder import ModelFolder
from mmdml.cli.main import main
from mmdml.cli.own_data import (
    folder_of_pictures,
    held_out_classes,
    largest_trained_class,
    pictures_in_a_batch,
    read_own_data,
)
from mmdml.cli.recipe_file import same_but_values, with_values
from mmdml.cli.run_folders import base_of_runs, new_run, newest_run
from mmdml.registry import DATASETS

RECIPE = Path(REPO, 'configs/recommended/many_images.py')


def mmdml(*arguments, status=1):
    """Run a command in this process, and return its last line of errors."""
    done = CliRunner().invoke(main, [str(each) for each in arguments])
    assert done.exit_code == status, done.output
    return done.stderr.strip().rpartition('\n')[2]


@pytest.mark.slow
def test_a_folder_becomes_a_model_that_is_scored_resumed_and_never_overwritten(pictures, start, tmp_path):
    def run(*arguments):
        command = [sys.executable, '-m', 'mmdml.cli.main', *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shutil.copytree(pictures, tmp_path / 'my photos')
    train = ('train', 'my photos', '--model', start, '--image-size', 28, '--epochs', 2, '--workers', 0, '--seed', 3)
    text = run(*train)
    assert 'before training: Recall@1' in text and 'Env' not in text and 'Hooks' not in text
    assert 'The model is the folder runs/my photos-1: Recall@1' in text and '2 held-out classes' in text
    assert "  mmdml index 'my photos' --store 'my photos-1.store' --model 'runs/my photos-1'" in text
    model = tmp_path / 'runs/my photos-1'
    folder = ModelFolder.read(model)
    assert len(folder.classes) == 6 and folder.training['epochs'] == 2
    before, after = folder.training['scores']['Recall@1']
    assert f'| Recall@1 | {before:.2f} | {after:.2f} |' in (model / 'README.md').read_text()
    recipe = Config.fromfile(model / 'recipe.py')
    assert recipe.train_dataloader.batch_size == recipe.train_dataloader.sampler.batch_size == 24
    assert recipe.randomness.seed == 3 and recipe.train_cfg.max_epochs == 2

    # The scores of the card are those of the folder on the same pictures.
    held_out = set(read_own_data(pictures).classes) - set(folder.classes)
    for name in held_out:
        shutil.copytree(Path(pictures, name), tmp_path / 'held out' / name)
    # The warning about it is no part of the JSON.
    (tmp_path / 'held out' / name / 'notes.txt').touch()
    found = json.loads(run('test', 'held out', '--model', 'runs/my photos-1', '--json', '--out', 'held out.npz'))
    saved = json.loads(run('evaluate', 'held out.npz', '--recall-at', '1', '--json', '-'))
    assert saved['scores']['Recall@1'] == pytest.approx(found['scores']['Recall@1'])
    assert found['scores']['Recall@1'] == pytest.approx(after, abs=0.01) and found['classes'] == 2

    # Killed before the folder was written: the same command writes it.
    for name in ('model.json', 'weights.pth', 'README.md'):
        (model / name).unlink()
    run(*train, '--resume')
    again = ModelFolder.read(model)
    assert again.model_hash == folder.model_hash and again.training['scores'] == folder.training['scores']
    # The backbone is the one that it began with; the embedding is as wide as its features.
    assert ImageEmbeddingInferencer(model, progress=False).dimensions == 8
    assert folder.model['neck']['type'] == 'ResidualEmbedding' and folder.model['pooling']['type'] == 'UnitPooling'

    # Another recipe trains the whole model, and inherits what it has in common with a third.
    run(*train, '--recipe', 'large_batch', '--hold-out', 0)
    whole = tmp_path / 'runs/my photos-2'
    assert ImageEmbeddingInferencer(whole, progress=False).dimensions == 6
    recipe = Config.fromfile(whole / 'recipe.py')
    assert (
        recipe.model.chunk_size == 64 and recipe.train_dataloader.batch_size == 32 == 8 * 4 and recipe.image_size == 28
    )
    # A recipe that averages weights gives the average, which is what was scored.
    (tmp_path / 'average.py').write_text(
        "_base_ = ['mmdml::recommended/frozen_backbone.py']\ncustom_hooks = [dict(type='EMAHook', momentum=1e-6)]\n"
    )
    run(*train, '--recipe', 'average.py')
    averaged = torch.load(tmp_path / 'runs/my photos-3/weights.pth', weights_only=True)['state_dict']
    checkpoint = torch.load(tmp_path / 'runs/my photos-3/training/epoch_2.pth', weights_only=False)['state_dict']
    assert any(name.startswith('neck.') for name in checkpoint)
    for name in (each for each in checkpoint if each.startswith('neck.')):
        torch.testing.assert_close(averaged[name].float(), checkpoint[name], atol=1e-7, rtol=0)
    # It is a config as any other, also where no class is held out.
    assert recipe.val_dataloader.dataset.split == recipe.test_dataloader.dataset.split == 'train'
    checkpoint = tmp_path / 'elsewhere/epoch_1.pth'
    run('train', whole / 'recipe.py', '--work-dir', checkpoint.parent, '--cfg-options', 'train_cfg.max_epochs=1')
    assert 'training classes' in run('test', whole / 'recipe.py', checkpoint)


def test_too_little_to_learn_from_ends_in_a_line(pictures, start, tmp_path):
    def photos(*classes):
        folder = tmp_path / f'photos{len(list(tmp_path.iterdir()))}'
        for name, number in classes:
            (folder / name).mkdir(parents=True)
            for each in range(number):
                cv2.imwrite(str(folder / name / f'{each}.png'), np.full((8, 8), each, np.uint8))
        folder.mkdir(exist_ok=True)
        return folder

    one, single = photos(('beech', 3)), photos(('beech', 3), ('oak', 1), ('elm', 1))
    assert 'has one class, beech: a model learns from pictures of different' in mmdml('train', one, '--model', start)
    assert '1 classes with two pictures or more, and 2 with one' in mmdml('train', single, '--model', start)
    assert 'has no folders in it: make one for each class' in mmdml('train', one / 'beech', '--model', start)
    assert 'there is no folder or list' in mmdml('train', tmp_path / 'nowhere', '--model', start)
    assert 'every picture would be right' in mmdml('test', one, '--model', start)


def test_pictures_of_a_class_in_a_batch_are_as_many_as_a_trained_class_has(tmp_path):
    def folder(sizes):
        data = tmp_path / ''.join(map(str, sizes))
        for number, size in enumerate(sizes):
            (data / f'c{number}').mkdir(parents=True)
            for each in range(size):
                cv2.imwrite(str(data / f'c{number}/{each}.png'), np.full((8, 8), each, np.uint8))
        return read_own_data(data)

    assert largest_trained_class(folder([3, 2, 3, 3]), 0, 0) == 3
    few = folder([1, 1, 2, 2, 1, 1])
    held_out = [held_out_of(few, seed) for seed in range(40)]
    seed = held_out.index({'c2', 'c3'})
    with pytest.raises(ValueError, match='among the 2 that are held out.*--hold-out 0'):
        largest_trained_class(few, 2, seed)
    assert largest_trained_class(few, 2, held_out.index({'c0', 'c1'})) == 2
    # A whole number of classes fills the batch.
    sizes = [pictures_in_a_batch(None, 64, each, classes) for each, classes in ((3, 40), (3, 10), (4, 40))]
    assert sizes == [63, 30, 64]


def held_out_of(data, seed):
    dataset = DATASETS.build(dict(**data.settings, split='val', val_classes=2, val_seed=seed))
    return set(dataset.metainfo['classes'])


def test_pictures_that_cannot_be_read_are_named_at_once_and_leave_no_run(pictures, start, tmp_path):
    shutil.copytree(pictures, tmp_path / 'photos')
    (tmp_path / 'photos/class_0/a.png').touch()
    (tmp_path / 'photos/class_1/b.jpg').write_text('<html>')
    error = mmdml('train', tmp_path / 'photos', '--model', start, '--out', tmp_path / 'run')
    assert error.startswith('error: 2 pictures cannot be learned from, remove them: ')
    assert 'a.png is empty; ' in error and 'b.jpg is no picture that OpenCV decodes' in error
    assert not list(tmp_path.glob('run*'))


def test_options_that_do_not_fit_end_in_a_line_and_leave_no_run(pictures, start, tmp_path):
    train = ('train', pictures, '--out', tmp_path / 'run', '--model')
    assert '--batch-size 30 must be a multiple of 4' in mmdml(*train, start, '--batch-size', 30)
    assert 'at most 24: there are 6 classes' in mmdml(*train, start, '--batch-size', 28)
    assert 'there is no recipe best; there are cpu_only, few_images, frozen_backbone, ' in mmdml(
        *train, start, '--recipe', 'best'
    )
    assert 'no weights were published' in mmdml(*train, start.removesuffix(':untrained'))
    assert 'there is no run' in mmdml(*train, start, '--resume')
    assert '--lr' in mmdml(*train, start, '--lr', 0, status=2)
    for option, number in (('--lr', 'nan'), ('--lr', 'inf'), ('--hold-out', 'nan')):
        assert f'{number} is no finite number' in mmdml(*train, start, option, number, status=2)
    assert 'holds 7 of 8 classes out' in mmdml(*train, start, '--hold-out', 0.9)
    assert not list(tmp_path.iterdir())
    (tmp_path / 'bare.py').write_text("optim_wrapper = dict(type='OptimWrapper')\n")
    bare = mmdml(*train, start, '--recipe', tmp_path / 'bare.py')
    assert (
        'bare.py is no recipe: it has no train_dataloader, model, val_dataloader, val_evaluator, batch_size, ' in bare
    )
    under = mmdml('train', pictures, '--out', tmp_path / 'bare.py/run', '--model', start)
    assert under == f'error: {tmp_path}/bare.py is there already, a file; name another place'
    assert [each.name for each in tmp_path.iterdir()] == ['bare.py']


WRONG_PARTS = {
    'model = dict(head=dict(loss=dict(alpha=-3)))': 'model.head.loss: alpha and beta must be positive, got -3 and 40.0',
    'model = dict(head=dict(loss=dict(alphas=3)))': "model.head.loss.alphas: MultiSimilarityLoss takes no 'alphas'; ",
    'model = dict(neck=dict(hidden=(-2,)))': 'model.neck: hidden must be one width or more, each at least 1',
    'optim_wrapper = dict(optimizer=dict(betas=(2, 0)))': 'optim_wrapper.optimizer: Invalid beta parameter',
    "test_pipeline = [dict(type='LoadImageFromFile', colors=1)]": 'test_dataloader.dataset.pipeline.0.colors: Load',
    "test_pipeline = 'x'": "test_pipeline must be a list of transforms, got 'x'",
    'train_dataloader = dict(sampler=dict(images_per_class=0))': 'train_dataloader.sampler: images_per_class must be ',
    'train_dataloader = dict(sampler=dict(batch_size=8))': 'train_dataloader.batch_size is 24, but its sampler orders ',
    'train_dataloader = dict(timeout=-5)': 'train_dataloader: timeout option should be non-negative',
    "train_dataloader = dict(dataset=dict(split='x'))": "train_dataloader.dataset: split='x' of FeatureFile is unknown",
    "val_dataloader = dict(collate_fn=dict(type='nope'))": 'val_dataloader: the first argument must be callable',
    'param_scheduler = dict(begin=50)': 'param_scheduler: end should be larger than begin, but got begin=50, end=20',
    "custom_hooks = [dict(type='EarlyStoppingHook')]": 'custom_hooks.0: EarlyStoppingHook.__init__() missing 1 ',
    # The first one takes the visualizer of the run.
    "custom_hooks = [dict(type='mmpretrain.VisualizationHook'), dict(type='EarlyStoppingHook')]": 'custom_hooks.1: ',
    'default_hooks = dict(finite_loss=dict(interval=0))': 'default_hooks.finite_loss: interval must be an integer',
    'optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(neck=3)))': (
        'optim_wrapper.paramwise_cfg.custom_keys.neck: must be a dict such as dict(lr_mult=10), got 3'
    ),
    'val_evaluator = dict(recall_at=(0,))': 'val_evaluator: recall_at must hold positive integers, got (0,)',
}

# Of those, what a recipe that trains on pictures has as well.
WRONG_PARTS_OF_ANY = [
    'train_dataloader = dict(sampler=dict(images_per_class=0))',
    'train_dataloader = dict(timeout=-5)',
    "custom_hooks = [dict(type='EarlyStoppingHook')]",
    'val_evaluator = dict(recall_at=(0,))',
]


WRONG_VALUES = {
    "batch_size = 'a'": "batch_size must be an integer of at least 1, got 'a'",
    'images_per_class = 0': 'images_per_class must be an integer of at least 1, got 0',
    'epochs = -1': 'epochs must be an integer of at least 1, got -1',
    "seed = 'a'": "seed must be an integer of at least 0, got 'a'",
}


def test_values_of_a_recipe_that_are_no_counts_are_named_and_nothing_is_trained(pictures, start, tmp_path):
    recipe = tmp_path / 'mine.py'
    train = ('train', pictures, '--model', start, '--out', tmp_path / 'run', '--recipe', recipe)
    for text, message in WRONG_VALUES.items():
        recipe.write_text(f"_base_ = ['mmdml::recommended/frozen_backbone.py']\n{text}\n")
        assert mmdml(*train) == f'error: {recipe}: {message}'
    for text, message in (
        ("train_dataloader = 'x'", "train_dataloader: must be a dict, got 'x'"),
        ("train_dataloader = dict(dataset='x')", "train_dataloader.dataset: must be a dict, got 'x'"),
        ('train_dataloader = dict(dataset=None)', 'mine.py is no recipe: it has no train_dataloader.dataset. Inherit'),
        ('val_dataloader = None', 'mine.py is no recipe: it has no val_dataloader. Inherit'),
        ('model = None', 'mine.py is no recipe: it has no model. Inherit'),
    ):
        recipe.write_text(f"_base_ = ['mmdml::recommended/frozen_backbone.py']\n{text}\n")
        assert message in mmdml(*train)
    assert [each.name for each in tmp_path.iterdir()] == ['mine.py']


def test_a_wrong_part_of_a_recipe_ends_in_a_line_before_pictures_are_embedded(pictures, start, tmp_path, monkeypatch):
    monkeypatch.setattr('mmdml.cli.folder_training.make_features', lambda cfg: pytest.fail('pictures are embedded'))
    monkeypatch.setattr('mmdml.cli.folder_training.require_readable', lambda data: pytest.fail('pictures are read'))
    monkeypatch.setattr(Visualizer, '_instance_dict', OrderedDict())  # as a command begins
    recipe = tmp_path / 'mine.py'
    train = ('train', pictures, '--model', start, '--out', tmp_path / 'run')
    for text, message in WRONG_PARTS.items():
        recipe.write_text(f"_base_ = ['mmdml::recommended/frozen_backbone.py']\n{text}\n")
        assert mmdml(*train, '--recipe', recipe).startswith(f'error: {message}')
        recipe.write_text(f"_base_ = ['mmdml::recommended/many_images.py']\n{text}\n")
        if text in WRONG_PARTS_OF_ANY:
            assert mmdml(*train, '--recipe', recipe).startswith(f'error: {message}')
        assert [each.name for each in tmp_path.iterdir()] == ['mine.py']
    # Of a run that was stopped, its own recipe may have been edited.
    with pytest.MonkeyPatch.context() as patch, pytest.raises(pytest.fail.Exception):
        patch.setattr('mmdml.cli.folder_training.require_readable', lambda data: None)
        mmdml(*train)
    with open(tmp_path / 'run-1/recipe.py', 'a') as file:
        file.write("model['head']['loss']['alpha'] = -3\n")
    assert mmdml(*train, '--resume').startswith('error: model.head.loss: alpha and beta must be positive')


def test_a_run_goes_on_only_as_it_began(pictures, start, tmp_path):
    run = new_run(str(tmp_path / 'run'))
    began = dict(epochs=5, num_workers=1, model_name=start, val_classes=2)
    (run / 'recipe.py').write_text(with_values(RECIPE, began)['recipe.py'])
    resume = ('train', pictures, '--model', start, '--out', tmp_path / 'run', '--resume')
    assert '--epochs 6: ' in mmdml(*resume, '--epochs', 6) and 'began with 5' in mmdml(*resume, '--epochs', 6)
    (tmp_path / 'mine.py').write_text(RECIPE.read_text().replace('num_copies=3', 'num_copies=2'))
    assert f'{run} began with another one' in mmdml(*resume, '--recipe', tmp_path / 'mine.py')
    # The recipe that it began with passes: the next thing that differs is named.
    assert '--epochs 6: ' in mmdml(*resume, '--recipe', 'many_images', '--epochs', 6)
    assert '--workers 2: ' in mmdml(*resume, '--workers', 2)
    assert 'began with ' + start in mmdml(*resume, '--model', start.partition(':')[0])
    assert 'held-out classes 4: ' in mmdml(*resume, '--hold-out', 0.5)
    # The recipe's own folder is another one than this.
    assert "began with {'type': 'ImageFolder', 'data_root': 'photos'}" in mmdml(*resume, '--hold-out', 0.2)
    (run / 'model.json').write_text('{}')
    assert 'run-1 is finished' in mmdml(*resume)


def test_a_run_that_was_stopped_before_its_first_checkpoint_goes_on(pictures, start, tmp_path):
    train = ('train', pictures, '--model', start, '--out', tmp_path / 'run', '--epochs', 1, '--workers', 0)
    mmdml(*train, status=0)
    run = tmp_path / 'run-1'
    first = ModelFolder.read(run)
    log = next(run.glob('training/*/*.log')).read_text()
    assert 'weights     of the neck: new, 0 of 4 from a file; the backbone made the features' in log
    # Two held-out classes.
    assert 'too few to tell learning from chance' in log and 'no better than chance' not in log
    # Without IAA and D&C there is nothing to draw of a run.
    assert 'mmdml test FOLDER' in mmdml('draw', run, '--out', tmp_path / 'drawn')
    # Of the model its card stays, as if the writing had been cut off, too.
    for name in ('training/*.pth', 'training/features.npz', 'model.json', 'weights.pth'):
        for path in run.glob(name):
            path.unlink()
    mmdml(*train, '--resume', status=0)
    again = ModelFolder.read(run)
    assert again.training['updates'] == 15 and not (tmp_path / 'run-2').exists()
    # The untrained backbone was built anew.
    assert again.model_hash == first.model_hash
    # What is trained from a model has the licenses of its weights.
    (run / 'licenses').mkdir()
    (run / 'licenses/mine.txt').write_text('Permission')
    mmdml('train', pictures, '--model', run, '--out', tmp_path / 'more', '--epochs', 1, '--workers', 0, status=0)
    assert (tmp_path / 'more-1/licenses/mine.txt').read_text() == 'Permission'
    assert '- mine: `licenses/mine.txt`' in (tmp_path / 'more-1/README.md').read_text()
    # The features are of pictures that have changed since.
    (run / 'model.json').unlink()
    listed = json.loads((run / 'training/pictures.json').read_text())
    assert len(listed) == 36 and listed[0][1] == 'class_0'
    listed[0][1] = 'class_1'
    (run / 'training/pictures.json').write_text(json.dumps(listed))
    error = mmdml(*train, '--resume')
    assert error.startswith(f'error: {listed[0][0]} is new, gone, changed or in another class since {run}')
    for damaged in ('[["a.png", "class_', '3', '[3]', '[["a.png"]]', '[[[1], "b", 1, 2, 3]]', '\xff'):
        (run / 'training/pictures.json').write_bytes(damaged.encode('latin-1'))
        error = mmdml(*train, '--resume')
        assert error.startswith(f'error: {run}/training/pictures.json cannot be read, it is damaged (')
        assert 'remove it, and the pictures are embedded again, or leave --resume out' in error


def test_runs_are_numbered_and_none_is_used_twice(tmp_path):
    base = str(tmp_path / 'runs/photos')
    assert [new_run(base).name for _ in range(2)] == ['photos-1', 'photos-2']
    (tmp_path / 'runs/photos-12').mkdir()
    (tmp_path / 'runs/photos-x').mkdir()
    assert newest_run(base).name == 'photos-12' and new_run(base).name == 'photos-13'


def test_runs_have_the_name_of_a_folder_that_ends_with_a_slash(tmp_path):
    # They were called -1, which no command takes as the value of an option or an argument.
    assert new_run(base_of_runs(f'{tmp_path}/models/birds/')) == tmp_path / 'models/birds-1'
    for nameless in ('', '.', './', 'models/..', '/'):
        with pytest.raises(ValueError, match='has no name for runs'):
            base_of_runs(nameless)


def test_a_value_is_set_in_every_recipe_that_assigns_it(tmp_path):
    few = RECIPE.with_name('few_images.py')
    texts = with_values(few, dict(batch_size=12, images_per_class=2, lr=0.5, features='x.npz'))
    assert list(texts) == ['recipe.py', 'frozen_backbone.py']
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    config = Config.fromfile(tmp_path / 'recipe.py')
    assert config.train_dataloader.batch_size == config.train_dataloader.sampler.batch_size == 12
    assert config.train_dataloader.sampler.images_per_class == 2 and config.optim_wrapper.optimizer.lr == 0.5
    assert config.train_dataloader.dataset.ann_file == 'x.npz'
    assert same_but_values(few, tmp_path / 'recipe.py', ['batch_size', 'images_per_class', 'lr', 'features'])
    assert not same_but_values(few, tmp_path / 'recipe.py', ['batch_size', 'images_per_class', 'lr'])
    assert not same_but_values(RECIPE, tmp_path / 'recipe.py', ['batch_size'])


def test_a_value_of_a_recipe_is_set_once_and_used_everywhere(tmp_path):
    values = dict(image_size=56, embedder=dict(type='X', neck=[1, 2]))
    (tmp_path / 'recipe.py').write_text(with_values(RECIPE, values)['recipe.py'])
    config = Config.fromfile(tmp_path / 'recipe.py')
    crop, resized = config.train_pipeline[1].scale, config.test_pipeline[1].scale
    assert (crop, resized, config.test_pipeline[2].crop_size) == (56, 64, 56) and config.model.type == 'X'
    assert config.batch_size == Config.fromfile(RECIPE).batch_size
    with pytest.raises(ValueError, match="assigns no 'image_sise' at its top level.*did you mean 'image_size'"):
        with_values(RECIPE, dict(image_sise=1))


def test_a_file_that_is_query_and_gallery_row_keeps_both_roles(pictures, start, tmp_path):
    files = sorted(Path(pictures).rglob('*.png'))
    rows = [f'{file},{file.parent.name},{role}\n' for file in files for role in ('query', 'gallery')]
    (tmp_path / 'mine.csv').write_text('path,label,role\n' + ''.join(rows))
    test = ('test', tmp_path / 'mine.csv', '--model', start, '--json', '--out')
    done = CliRunner().invoke(main, [str(each) for each in (*test, tmp_path / 'out/rows.npz')])
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / 'out/rows.npz') as saved:
        assert saved['roles'].tolist() == [1, 2] * 36
    assert 'must end with .npz' in mmdml(*test, tmp_path / 'rows.csv')
    (tmp_path / 'rows.npz').symlink_to(tmp_path / 'mine.csv')
    assert 'rows.npz is a file that is read; name another one' in mmdml(*test, tmp_path / 'rows.npz')
    (tmp_path / 'folders.txt').write_text(f'{files[0]} a\n. b\n')
    assert 'is a folder, not a picture; remove it' in mmdml('test', tmp_path / 'folders.txt', '--model', start)


def test_a_list_is_as_good_as_a_folder(pictures, tmp_path):
    files = sorted(Path(pictures).rglob('*.png'))
    (tmp_path / 'mine.csv').write_text('path,label\n' + ''.join(f'{file},{file.parent.name}\n' for file in files))
    listed, folder = read_own_data(tmp_path / 'mine.csv'), read_own_data(pictures)
    assert listed.classes == folder.classes and listed.sizes.tolist() == folder.sizes.tolist()
    assert (listed.name, str(listed)) == ('mine', '36 pictures of 8 classes')
    # What is searched after the training are the pictures, not the list.
    assert folder_of_pictures(listed) == folder_of_pictures(folder) == pictures
    (tmp_path / 'few.txt').write_text(''.join(f'{file} a\n' for file in files[:2]))
    assert folder_of_pictures(read_own_data(tmp_path / 'few.txt')) == str(files[0].parent)


def test_a_plain_list_may_have_roles(pictures, tmp_path):
    files = sorted(Path(pictures).rglob('*.png'))
    lines = [f'{file} {file.parent.name} {role}\n' for file in files for role in ('query', 'gallery')]
    (tmp_path / 'roles.txt').write_text('# mine\n' + ''.join(lines))
    data = read_own_data(tmp_path / 'roles.txt')
    dataset = DATASETS.build(dict(**data.settings, split='test', test_mode=True))
    assert [dataset.get_data_info(row)['role'] for row in range(4)] == [1, 2, 1, 2] and len(data.classes) == 8
    # A line without one is named; a class may be called as a role is.
    (tmp_path / 'mixed.txt').write_text(''.join(lines[:3]) + f'{files[0]} class_0\n')
    with pytest.raises(ValueError, match='mixed.txt, line 4: expected "path label role"'):
        read_own_data(tmp_path / 'mixed.txt')
    for name in ('a b.png', 'c d.png'):
        shutil.copy(files[0], tmp_path / name)
    (tmp_path / 'classes.txt').write_text('a b.png query\nc d.png gallery\n')
    assert sorted(read_own_data(tmp_path / 'classes.txt').classes) == ['gallery', 'query']


@pytest.mark.parametrize('classes, share, expected', [(2, None, 0), (3, None, 0), (4, 0.2, 2), (8, 0.5, 4), (8, 0, 0)])
def test_two_classes_at_least_are_held_out_and_two_are_left(pictures, classes, share, expected):
    assert held_out_classes(classes_of(pictures, classes), share) == expected


def test_a_share_that_leaves_too_few_classes_is_refused(pictures):
    with pytest.raises(ValueError, match='--hold-out 0.9 holds 7 of 8 classes out.*at most 0.75, or --hold-out 0'):
        held_out_classes(classes_of(pictures, 8), 0.9)
    with pytest.raises(ValueError, match='holds 2 of 3 classes out, .* at least: --hold-out 0'):
        held_out_classes(classes_of(pictures, 3), 0.2)


def classes_of(pictures, number):
    data = read_own_data(pictures)
    return type(data)(data.settings, '', data.classes[:number], data.sizes[:number])


def test_a_setting_that_the_parts_of_a_run_refuse_ends_in_a_line_that_names_it(pictures, tmp_path):
    tiny_config(pictures, tmp_path / 'run').dump(str(tmp_path / 'mine.py'))
    for option, message in {
        'train_dataloader.timeout=-5': 'train_dataloader: timeout option should be non-negative',
        'train_cfg.dynamic_intervals=[3]': 'train_cfg: AssertionError',
        'optim_wrapper.optimizer.betas=[0.9,1]': 'optim_wrapper.optimizer: Invalid beta parameter at index 1: 1',
    }.items():
        assert mmdml('train', tmp_path / 'mine.py', '--cfg-options', option) == f'error: {message}'


def test_the_config_form_of_the_command_is_that_of_the_tools(tmp_path):
    (tmp_path / 'empty.py').write_text('x = 1\n')
    assert "has no entry 'model'" in mmdml('train', tmp_path / 'empty.py')
    assert "has no entry 'model'" in mmdml('test', tmp_path / 'empty.py', 'epoch_1.pth')
    late = mmdml('train', '--seed', 1, tmp_path / 'empty.py', status=2)
    assert late.endswith(f'a config comes before its flags: main train {tmp_path}/empty.py ...')
