"""Pictures of a run are in its folder and in TensorBoard: of evaluations, synthetic rows and clusters."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import tiny_config, train

from mmdml.cli.main import main
from mmdml.visualization import PictureHook

BACKENDS = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]


def pictures_of(work_dir):
    return {path.name: cv2.imread(str(path)) for path in Path(work_dir).glob('*/vis_data/vis_image/*.png')}


def draw(cfg, folder, checkpoint, *options):
    """Draw the pictures of a checkpoint by the command, and read them; the error where there is one."""
    cfg.dump(str(folder / 'run.py'))
    arguments = ['draw', folder / 'run.py', checkpoint, '--out', folder / 'drawn', *options]
    done = CliRunner().invoke(main, [*map(str, arguments)])
    if done.exit_code:
        return done.stderr
    return {Path(path).name: cv2.imread(path) for path in done.stdout.split()}


@pytest.mark.slow
def test_a_run_with_iaa_draws_evaluations_and_synthetic_rows(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, train_cfg__max_epochs=3, visualizer__vis_backends=BACKENDS)
    cfg.model.head.sources.iaa.update(onset=0, update_interval=1)
    cfg.custom_hooks = [dict(type='PictureHook', interval=2, number=3, k=3)]
    train(cfg)
    found = pictures_of(tmp_path)
    # Seven updates an epoch. Evaluations: the first, of epoch 2, and the last; statistics: at the start of epoch 3.
    names = {'retrieval_7.png', 'retrieval_14.png', 'retrieval_21.png', 'map_21.png', 'worst_queries_21.png'}
    assert names <= set(found)
    assert {name for name in found if 'synthetic' in name} == {'synthetic_rows_14.png'}
    assert 'class_spread_14.png' in found
    assert all(image is not None and image.std() > 5 for image in found.values())
    (folder,) = tmp_path.glob('*/vis_data')
    events = EventAccumulator(str(folder), size_guidance=dict(images=0)).Reload()
    assert {'retrieval', 'map', 'similarities', 'synthetic_rows'} <= set(events.Tags()['images'])
    (projected,) = folder.glob('*/embeddings')
    labels = (projected / 'metadata.tsv').read_text().split()
    assert len(labels) == 36 and labels[0] == 'class_0' and (projected / 'sprite.png').exists()
    assert len((projected / 'tensors.tsv').read_text().splitlines()) == 36
    assert 'embeddings' in (folder / 'projector_config.pbtxt').read_text()
    # The command draws the same from the checkpoint, of the rows that the model embeds now.
    drawn = draw(cfg, tmp_path, tmp_path / 'epoch_3.pth')
    assert set(drawn) == {'synthetic_rows.png', 'class_spread.png'}
    np.testing.assert_array_equal(drawn['class_spread.png'], found['class_spread_14.png'])
    assert drawn['synthetic_rows.png'].std() > 5 and 'no picture' in draw(cfg, tmp_path, 'x.pth', '--kind', 'map')


@pytest.mark.slow
def test_a_divided_run_draws_its_clusters(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, 'divide_and_conquer/dc-k4_margin_conv4_omniglot.py', train_cfg__max_epochs=2)
    cfg.model.neck.num_learners = 2
    cfg.custom_hooks.append(dict(type='PictureHook', interval=1, kinds=()))
    train(cfg)
    ((name, sheet),) = pictures_of(tmp_path).items()
    assert name.startswith('division')
    assert sheet.shape[1] == 10 * 130 and sheet.std() > 5
    drawn = draw(cfg, tmp_path, tmp_path / 'epoch_2.pth')
    assert set(drawn) == {'division.png'} and drawn['division.png'].shape[1] == sheet.shape[1]
    weights = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=torch.load(tmp_path / 'epoch_2.pth', weights_only=False)['state_dict']), weights)
    assert 'weights.pth holds weights only; name the last checkpoint' in draw(cfg, tmp_path, weights)


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="no picture 'heat'"):
        PictureHook(kinds=('heat',))
    with pytest.raises(ValueError, match='interval=0 must be 1 or more'):
        PictureHook(interval=0)
