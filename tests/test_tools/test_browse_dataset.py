import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

# They start processes that take several seconds each.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONFIG = """
default_scope = 'mmdml'
pipeline = [dict(type='RandomAffine', degrees=10, fill=90), dict(type='mmpretrain.PackInputs')]
train_dataloader = dict(dataset=dict(type='Omniglot', split='test', pipeline=pipeline))
"""


def browse(folder, *options):
    (folder / 'config.py').write_text(CONFIG)
    command = [sys.executable, 'tools/visualization/browse_dataset.py', folder / 'config.py', '-o', folder / 'sheets']
    return subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)


def test_sheets_show_rows_of_one_class_after_the_pipeline(tmp_path):
    done = browse(tmp_path, '-n', '36', '--cfg-options', 'train_dataloader.dataset.image_size=20')
    assert done.returncode == 0, done.stderr
    sheets = sorted((tmp_path / 'sheets').iterdir())
    assert [path.name for path in sheets] == ['train_transformed_000.png', 'train_transformed_001.png']
    first, second = (cv2.imread(str(path)) for path in sheets)
    # Tiles of 130 x 148 pixels with their border: 8 rows of 4, then 1 row of 4.
    assert first.shape == (8 * 148, 4 * 130, 3) and second.shape == (148, 4 * 130, 3)
    # Strokes are white; the corners of a turned drawing show the fill value.
    picture = first[1:129, 1:129]
    assert picture.max() > 200 and (picture == 90).any()


def test_a_concatenation_is_shown_through_the_pipeline_of_its_parts(tmp_path):
    """As the three test lists of VehicleID."""
    part = "dict(type='Omniglot', split='test', image_size=20, pipeline=[dict(type='mmpretrain.PackInputs')])"
    lists = f"dict(type='RetrievalConcatDataset', label_space='shared', datasets=[{part}, {part}])"
    (tmp_path / 'config.py').write_text(f'test_dataloader = dict(dataset={lists})\n')
    command = [
        sys.executable,
        'tools/visualization/browse_dataset.py',
        tmp_path / 'config.py',
        '-o',
        tmp_path / 'sheets',
    ]
    done = subprocess.run([*command, '--phase', 'test', '-n', '8'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (sheet,) = (tmp_path / 'sheets').iterdir()
    assert cv2.imread(str(sheet)).shape == (2 * 148, 4 * 130, 3)


def test_pipeline_grid_shows_every_stage_of_each_image(tmp_path):
    done = browse(tmp_path, '-n', '3', '--mode', 'pipeline-grid')
    assert done.returncode == 0, done.stderr
    sheet = cv2.imread(str(tmp_path / 'sheets' / 'train_pipeline-grid_000.png'))
    assert sheet.shape == (3 * 148, 2 * 130, 3)
    before, after = sheet[1:129, 1:129], sheet[1:129, 131:259]
    assert not np.array_equal(before, after)


@pytest.mark.parametrize('options, message', [(['--phase', 'val'], 'has no val_dataloader'), (['-n', '0'], '--number')])
def test_bad_options_end_with_a_message(tmp_path, options, message):
    done = browse(tmp_path, *options)
    assert done.returncode != 0 and message in done.stderr


def test_names_that_are_no_utf8_and_images_without_labels_are_shown(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b'pictures', b'caf\xe9')
    os.makedirs(folder)
    for name in (b'1.png', b'\xe9.png'):
        with open(os.path.join(folder, name), 'wb') as file:
            file.write(cv2.imencode('.png', np.full((8, 8, 3), 200, np.uint8))[1].tobytes())
    dataset = dict(type='ImageFolder', data_root=str(tmp_path / 'pictures'), pipeline=[dict(type='LoadImageFromFile')])
    (tmp_path / 'config.py').write_text(
        f"default_scope = 'mmdml'\ntrain_dataloader = dict(dataset={dataset!r})\n"
        f'test_dataloader = dict(dataset=dict(unlabeled=True, **{dataset!r}))\n'
    )
    sheets = tmp_path / 'sheets'
    command = [sys.executable, 'tools/visualization/browse_dataset.py', tmp_path / 'config.py', '-o', sheets]
    for phase in ('train', 'test'):
        done = subprocess.run([*command, '--phase', phase], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert cv2.imread(str(sheets / f'{phase}_transformed_000.png')).shape == (148, 2 * 130, 3)
