"""tools/train.py and tools/test.py as their users call them."""

import os
import os.path as osp
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from tiny import REPO, tiny_config

from mmdml.utils.weights_hash import weights_hash

# They start processes that take several seconds each.
pytestmark = pytest.mark.slow


def run(tool, *args, fails=False, **env):
    done = subprocess.run(
        [sys.executable, osp.join(REPO, 'tools', tool), *map(str, args)],
        env=dict(os.environ, OMP_NUM_THREADS='1', **env),
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    text = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, text[-4000:]
    return text


def log_of(work_dir):
    """Text of the newest log file of a work dir."""
    return max(work_dir.glob('*/*.log'), key=lambda path: path.stat().st_mtime).read_text()


@pytest.fixture(scope='module')
def trained(pictures, tmp_path_factory):
    """One epoch through tools/train.py: config file, work dir, log."""
    work_dir = tmp_path_factory.mktemp('trained')
    cfg = tiny_config(pictures, work_dir, train_cfg__max_epochs=1, log_level='INFO')
    cfg.visualizer = dict(type='Visualizer', vis_backends=[dict(type='TensorboardVisBackend')])
    config = work_dir / 'tiny.py'
    cfg.dump(str(config))
    return config, work_dir, run('train.py', config)


class Hostile:
    """Unpickling this writes a file."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


@pytest.fixture
def hostile(tmp_path):
    """A checkpoint whose pickle runs code, and the file by which one can tell."""
    marker = tmp_path / 'code_was_run'
    path = tmp_path / 'epoch_1.pth'
    torch.save({'state_dict': {}, 'meta': Hostile(marker)}, path)
    assert pickle.dumps(Hostile(marker))
    return path, marker


def test_training_logs_loss_eta_scores_and_a_summary_line(trained):
    log = log_of(trained[1])
    assert 'Epoch(train) [1][7/7]' in log and 'eta: ' in log and 'loss: ' in log
    assert 'retrieval/Recall@1: ' in log
    assert 'iaa_candidates: 18.0000' in log  # 3 copies of a batch of 6
    assert 'Done: 7 updates' in log
    assert 'Config:' in log and 'System environment' in log and 'Hooks will be executed' in log


def test_training_shows_a_few_lines_and_the_rest_is_in_the_log_file(trained):
    lines = trained[2].splitlines()
    first = next(
        number for number, line in enumerate(lines) if line.startswith('evaluation after epoch 1 of 1: Recall')
    )
    assert first <= 12, trained[2]
    text = '\n'.join(lines[:first])
    assert '36 images of 8 classes' in text and '7 updates an epoch, batches of 6 = 3 classes x 2 images' in text
    assert 'Conv4' in text and 'MultiSimilarityLoss with iaa' in text
    assert '1,918 trained, 0 frozen' in text and '0 of 22' in text and 'device      cpu' in text
    assert 'never reached: milestones 9, 12 of MultiStepLR (the run has 1 epochs)' in text
    assert str(next(trained[1].glob('*/*.log')).name) in text
    assert lines[-1].startswith('Done: 7 updates') and len(lines) <= first + 3
    assert 'Warning' not in trained[2] and 'WARNING' not in trained[2]
    assert 'UserWarning: Fail to import' in log_of(trained[1])


def test_training_writes_tensorboard_scalars(trained):
    assert list(trained[1].glob('*/vis_data/events.out.tfevents.*'))


def test_testing_scores_and_writes_embeddings_labels_and_paths(trained, tmp_path, pictures):
    config, work_dir, _ = trained
    out = tmp_path / 'embeddings.npz'
    log = run('test.py', config, work_dir / 'epoch_1.pth', '--out', out, '--work-dir', tmp_path)
    assert 'MAP@R' in log and 'Done: Recall@1' in log and 'weights     22 of 22' in log
    assert len(log.splitlines()) <= 12 and 'retrieval/MAP@R' in log_of(tmp_path)
    saved = np.load(out)
    assert saved['embeddings'].shape == (36, 6) and saved['labels'].shape == (36,)
    np.testing.assert_allclose(np.linalg.norm(saved['embeddings'], axis=1), 1, rtol=1e-5)
    assert all(osp.isfile(path) for path in saved['paths'])
    # Labels are those of the user: folder names.
    assert [osp.basename(osp.dirname(path)) for path in saved['paths']] == saved['labels'].tolist()
    assert saved['class_names'].tolist() == sorted(set(saved['labels'].tolist()))
    weights = torch.load(work_dir / 'epoch_1.pth', weights_only=False)['state_dict']
    assert str(saved['model_hash']) == weights_hash(weights)


def test_testing_without_scores_writes_embeddings_only_and_makes_the_folder(trained, tmp_path):
    config, work_dir, _ = trained
    out = tmp_path / 'new/folder/embeddings.npz'
    log = run('test.py', config, work_dir / 'epoch_1.pth', '--out', out, '--no-scores', '--work-dir', tmp_path)
    assert 'Recall@1' not in log and f'wrote 36 embeddings to {out}' in log
    assert np.load(out)['embeddings'].shape == (36, 6)


def test_pictures_without_labels_are_embedded_with_the_columns_of_their_table_and_not_scored(trained, tmp_path):
    config, work_dir, _ = trained
    listed = sorted(path for path in Path(Config.fromfile(config).test_dataloader.dataset.data_root).rglob('*.png'))[:5]
    (tmp_path / 'list.csv').write_text('path,camera\n' + ''.join(f'{path},c{i}\n' for i, path in enumerate(listed)))
    out = tmp_path / 'e.npz'
    options = [f'test_dataloader.dataset.{key}' for key in ('type=ImageList', 'unlabeled=True')]
    options += [f'test_dataloader.dataset.ann_file={tmp_path}/list.csv', 'test_dataloader.dataset.data_root=']
    arguments = (config, work_dir / 'epoch_1.pth', '--work-dir', tmp_path, '--out', out)
    run('test.py', *arguments, '--no-scores', '--cfg-options', *options)
    saved = np.load(out)
    assert saved['embeddings'].shape == (5, 6) and 'labels' not in saved
    assert saved['column_camera'].tolist() == [f'c{i}' for i in range(5)]
    log = run('test.py', *arguments, '--cfg-options', *options, fails=True)
    assert 'images without a label cannot be scored' in log


def test_a_place_that_cannot_be_written_is_refused_before_any_work(trained, tmp_path):
    (tmp_path / 'file').write_text('')
    for arguments, words in (
        (('--out', 'x.csv'), "--out: the output file must end with .npz, got 'x.csv'"),
        (('--out', tmp_path / 'file/x.npz'), 'the folder of the output'),
        (('--no-scores',), '--no-scores needs --out'),
    ):
        assert words in run('test.py', trained[0], 'x.pth', *arguments, fails=True)


def test_without_a_checkpoint_the_untrained_model_is_scored(trained, tmp_path):
    log = run('test.py', trained[0], '--work-dir', tmp_path)
    assert 'the untrained model is scored' in log and 'weights     0 of 22' in log and 'Done: Recall@1' in log


def test_resume_goes_on_from_the_latest_checkpoint(trained, tmp_path):
    config, work_dir, _ = trained
    (tmp_path / 'epoch_1.pth').write_bytes((work_dir / 'epoch_1.pth').read_bytes())
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    log = run(
        'train.py',
        config,
        '--work-dir',
        tmp_path,
        '--resume',
        '--no-validate',
        '--cfg-options',
        'train_cfg.max_epochs=2',
    )
    assert 'Done: 7 updates' in log and 'from update 7 on' in log
    log = log_of(tmp_path)
    assert 'Epoch(train) [2][7/7]' in log and 'Epoch(train) [1]' not in log
    assert 'Recall@1' not in log.partition('Hooks will be executed')[2]


def test_auto_scale_lr_follows_the_batch_size(trained, tmp_path):
    run('train.py', trained[0], '--work-dir', tmp_path, '--auto-scale-lr', '--no-validate')
    log = log_of(tmp_path)
    assert 'lr: 4.6875e-05' in log  # 1e-3 * 6 / 128


def test_amp_on_a_machine_without_cuda_is_a_clear_error(trained, tmp_path):
    if torch.cuda.is_available():
        assert 'Done: ' in run('train.py', trained[0], '--work-dir', tmp_path, '--amp')
    else:
        assert '--amp needs a CUDA device' in run('train.py', trained[0], '--work-dir', tmp_path, '--amp', fails=True)


def test_an_unknown_key_is_refused_before_any_work(trained, tmp_path):
    log = run('train.py', trained[0], '--cfg-options', 'optim_wraper.optimizer.lr=1', fails=True)
    assert "unknown config key 'optim_wraper'; did you mean 'optim_wrapper'" in log


def test_an_unknown_argument_of_a_part_is_named(trained, tmp_path):
    log = run(
        'train.py', trained[0], '--work-dir', tmp_path, '--cfg-options', 'model.head.sources.iaa.lambda_=1', fails=True
    )
    assert log == "error: model.head.sources.iaa.lambda_: IAAGenerator takes no 'lambda_'; did you mean 'lam'?\n"


@pytest.mark.parametrize('by', ['test', 'resume', 'load_from', 'init_cfg'])
def test_a_checkpoint_whose_pickle_would_run_code_is_refused(trained, tmp_path, hostile, by):
    config, path, marker = trained[0], *hostile
    calls = {
        'test': ('test.py', config, path, '--work-dir', tmp_path / 'run'),
        'resume': ('train.py', config, '--work-dir', tmp_path / 'run', '--resume', path),
        'load_from': ('train.py', config, '--work-dir', tmp_path / 'run', '--cfg-options', f'load_from={path}'),
        'init_cfg': (
            *('train.py', config, '--work-dir', tmp_path / 'run', '--cfg-options'),
            'model.backbone.init_cfg.type=Pretrained',
            f'model.backbone.init_cfg.checkpoint={path}',
        ),
    }
    log = run(*calls[by], fails=True)
    assert f'error: {path} was refused' in log and 'Traceback' not in log
    assert not marker.exists()


def test_missing_pretrained_weights_without_a_network_say_what_to_do(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, config='multi_similarity/ms_conv4_omniglot.py')
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='http://127.0.0.1:9/weights.pth')
    cfg.dump(str(tmp_path / 'tiny.py'))
    log = run('train.py', tmp_path / 'tiny.py', fails=True)
    assert 'http://127.0.0.1:9/weights.pth' in log and 'init_cfg' in log


def test_missing_data_end_before_training_with_the_command_that_prepares_them(tmp_path):
    log = run(
        'train.py',
        osp.join(REPO, 'configs/iaa/iaa_ms_r50_cub.py'),
        *('--work-dir', tmp_path, '--cfg-options', 'model.backbone.init_cfg=None'),
        f'train_dataloader.dataset.data_root={tmp_path}/CUB',
        fails=True,
    )
    assert f'{tmp_path}/CUB' in log and 'mmdml prepare CUB200' in log
    assert 'Epoch(train)' not in log


def test_an_unreadable_image_stops_the_run_by_name(pictures, tmp_path):
    import shutil

    folder = tmp_path / 'pictures'
    shutil.copytree(pictures, folder)
    (folder / 'class_3' / '0.png').write_bytes(b'no picture')
    cfg = tiny_config(str(folder), tmp_path / 'run')
    cfg.dump(str(tmp_path / 'tiny.py'))
    assert 'class_3/0.png' in run('train.py', tmp_path / 'tiny.py', fails=True)
