"""What the README shows works as it stands."""

import os.path as osp
import re
import shlex

import cv2
import numpy as np
from mmengine.config import Config
from tiny import REPO

from mmdml.registry import DATASETS

TEXT = open(osp.join(REPO, 'README.md')).read()
BLOCKS = re.findall(r'```(\w+)\n(.*?)```', TEXT, re.S)


def test_the_config_for_ones_own_pictures_builds_their_data_sets(tmp_path, monkeypatch):
    code = next(code for language, code in BLOCKS if language == 'python' and 'ImageFolder' in code)
    (tmp_path / 'my_config.py').write_text(code)
    for path in ('train/cat', 'train/dog', 'test/fox'):
        (tmp_path / 'photos' / path).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / 'photos' / path / '1.jpg'), np.full((60, 80, 3), 99, np.uint8))
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile('my_config.py')
    train, test = DATASETS.build(cfg.train_dataloader.dataset), DATASETS.build(cfg.test_dataloader.dataset)
    assert train.metainfo['classes'] == ['cat', 'dog'] and len(test) == 1
    assert train[0]['inputs'].shape == test[0]['inputs'].shape == (3, 224, 224)
    assert cfg.model.head.sources.iaa.type == 'IAAGenerator'


def test_every_file_that_a_command_or_a_link_names_is_there():
    links = [target.partition('#')[0] for target in re.findall(r'\]\(([^)]+)\)', TEXT) if '://' not in target]
    words = [word for language, code in BLOCKS if language == 'bash' for word in shlex.split(code, comments=True)]
    named = [word for word in words if word.startswith(('tools/', 'configs/')) or word == 'constraints.txt']
    assert len(links) > 5 and len(named) > 5
    missing = [path for path in links + named if not osp.exists(osp.join(REPO, path))]
    assert not missing
