"""configs/iaa/iaa_ms_r50_cub.py itself, on birds laid out as the official tree."""

import os
import os.path as osp
import re
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import pytest
from tiny import REPO

BIRDS = osp.join(osp.dirname(REPO), 'shared', 'data', 'cub50')
CLASSES, IMAGES = 16, 5


def bird_pictures(folder):
    """(class name, file name, bytes) of the first images of some classes: real ones if they are there."""
    if osp.isdir(BIRDS):
        with zipfile.ZipFile(osp.join(BIRDS, 'images.zip')) as archive:
            seen = {}
            for part in ('train.txt', 'test.txt'):
                lines = [line.split()[0] for line in open(osp.join(BIRDS, part))]
                for path in lines:
                    name = path.split('/')[1]
                    taken = seen.setdefault(f'{part}/{name}', [])
                    if len(taken) < IMAGES and sum(key.startswith(part) for key in seen) <= CLASSES // 2:
                        taken.append(path)
            for paths in seen.values():
                for path in paths:
                    yield path.split('/')[1], osp.basename(path), archive.read(path)
    else:
        random = np.random.default_rng(0)
        for label in range(CLASSES):
            for number in range(IMAGES):
                image = random.integers(0, 255, (90, 120, 3), dtype=np.uint8)
                image[:, :, label % 3] //= 1 + label
                yield f'{label + 1:03d}.Made_up', f'bird_{number}.jpg', cv2.imencode('.jpg', image)[1].tobytes()


@pytest.fixture(scope='module')
def official_tree(tmp_path_factory):
    """``images.txt``, ``image_class_labels.txt``, ``classes.txt`` and ``images/``."""
    root = tmp_path_factory.mktemp('CUB_200_2011')
    images, labels, classes = [], [], []
    for number, (name, file, data) in enumerate(bird_pictures(root), 1):
        if name not in classes:
            classes.append(name)
        folder = root / 'images' / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
        images.append(f'{number} {name}/{file}')
        labels.append(f'{number} {classes.index(name) + 1}')
    (root / 'images.txt').write_text('\n'.join(images) + '\n')
    (root / 'image_class_labels.txt').write_text('\n'.join(labels) + '\n')
    (root / 'classes.txt').write_text('\n'.join(f'{i} {name}' for i, name in enumerate(classes, 1)) + '\n')
    return root


@pytest.mark.slow
def test_two_epochs_of_the_config_itself_use_synthetic_candidates(official_tree, tmp_path):
    shrink = {
        'model.backbone.init_cfg': None,
        'model.backbone.depth': 50,
        'model.head.sources.iaa.onset': 0,
        'model.head.diagnostics_interval': 1,
        'default_hooks.logger.interval': 1,
        'train_cfg.max_epochs': 2,
        'train_cfg.val_interval': 2,
        'train_dataloader.batch_size': 16,
        'train_dataloader.sampler.batch_size': 16,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'val_dataloader.batch_size': 16,
        'val_dataloader.num_workers': 0,
        'train_dataloader.dataset.pipeline.1.scale': 64,
        'val_dataloader.dataset.pipeline.1.scale': 72,
        'val_dataloader.dataset.pipeline.2.crop_size': 64,
        'test_dataloader.dataset.pipeline.1.scale': 72,
        'test_dataloader.dataset.pipeline.2.crop_size': 64,
    }
    for part in ('train', 'val', 'test'):
        shrink[f'{part}_dataloader.dataset.data_root'] = official_tree
        shrink[f'{part}_dataloader.dataset.train_classes'] = CLASSES // 2
    done = subprocess.run(
        [
            *(sys.executable, '-W', 'ignore', osp.join(REPO, 'tools', 'train.py')),
            *(osp.join(REPO, 'configs/iaa/iaa_ms_r50_cub.py'), '--work-dir', tmp_path, '--cfg-options'),
            *(f'{key}={value}' for key, value in shrink.items()),
        ],
        env=dict(os.environ, OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    log = next(tmp_path.glob('*/*.log')).read_text()
    steps = re.findall(
        r'Epoch\(train\) +\[(\d)\]\[(\d)/2\].*iaa_candidates: ([\d.]+).*iaa_gradient_share: ([\d.]+)', log
    )
    assert [(epoch, step) for epoch, step, *_ in steps] == [('1', '1'), ('1', '2'), ('2', '1'), ('2', '2')]
    assert all(float(candidates) == 48 and float(share) > 0 for *_, candidates, share in steps)
    assert 'Swept 40 training images (train transform)' in log
    assert 'Done: 4 updates' in log and 'MAP@R' in log
