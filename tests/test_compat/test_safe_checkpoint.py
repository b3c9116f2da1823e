import builtins
import functools
import http.server
import io
import os
import pickle
import threading
from urllib.error import URLError

import mmengine.runner.checkpoint
import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.model import BaseModel, BaseModule
from mmengine.runner import Runner, load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

import mmdml.registry  # noqa: F401  (registers the safe loaders, as any use of mmdml does)
from mmdml.compat.safe_checkpoint import (
    UnsafeCheckpointError,
    explain_missing_weights,
    register_safe_loaders,
    safe_torch_load,
)


class RunsCommand:
    """Unpickled fully, it creates a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


class GetsAttribute:
    """Unpickled fully, it becomes ``getattr(owner, name)``."""

    def __init__(self, owner, name):
        self.owner, self.name = owner, name

    def __reduce__(self):
        return builtins.getattr, (self.owner, self.name)


@pytest.fixture
def marker(tmp_path):
    return tmp_path / 'code-was-run'


@pytest.fixture
def hostile(tmp_path, marker):
    path = tmp_path / 'hostile.pth'
    torch.save({'state_dict': {'weight': torch.ones(2)}, 'meta': RunsCommand(marker)}, path)
    return path


@pytest.fixture
def server(tmp_path):
    """Serves ``tmp_path`` on this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{running.server_port}'
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def own_download_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch-home'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')


def test_the_hostile_file_would_run_code_if_it_were_unpickled_fully(hostile, marker):
    torch.load(hostile, weights_only=False)
    assert marker.exists()


def test_hostile_local_checkpoint_is_refused_and_runs_nothing(hostile, marker):
    path = str(hostile)
    with pytest.raises(UnsafeCheckpointError) as error:
        CheckpointLoader.load_checkpoint(path)
    assert path in str(error.value) and 'posix.system' in str(error.value) and 'state_dict' in str(error.value)
    assert not marker.exists()


def test_hostile_downloaded_checkpoint_is_refused_and_runs_nothing(hostile, marker, server):
    with pytest.raises(UnsafeCheckpointError) as error:
        CheckpointLoader.load_checkpoint(f'{server}/hostile.pth')
    assert f'{server}/hostile.pth' in str(error.value) and 'posix.system' in str(error.value)
    assert not marker.exists()


def test_hostile_torchvision_weights_are_refused_and_run_nothing(hostile, marker, server, monkeypatch):
    monkeypatch.setattr(
        'mmengine.runner.checkpoint.get_torchvision_models', lambda: {'resnet50': f'{server}/hostile.pth'}
    )
    with pytest.raises(UnsafeCheckpointError, match='posix.system'):
        CheckpointLoader.load_checkpoint('torchvision://resnet50')
    assert not marker.exists()


def test_hostile_open_mmlab_file_is_refused_and_runs_nothing(hostile, marker, monkeypatch):
    monkeypatch.setenv('MMENGINE_HOME', str(hostile.parent))
    monkeypatch.setattr('mmengine.runner.checkpoint.get_external_models', lambda: {'bird': hostile.name})
    with pytest.raises(UnsafeCheckpointError, match='posix.system'):
        CheckpointLoader.load_checkpoint('open-mmlab://bird')
    assert not marker.exists()


def test_hostile_init_cfg_is_refused_and_runs_nothing(hostile, marker):
    module = BaseModule(init_cfg=dict(type='Pretrained', checkpoint=str(hostile)))
    with pytest.raises(UnsafeCheckpointError, match='posix.system'):
        module.init_weights()
    assert not marker.exists()


def test_hostile_checkpoint_is_refused_in_the_old_file_format(tmp_path, marker):
    path = tmp_path / 'legacy.pth'
    torch.save({'meta': RunsCommand(marker)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(UnsafeCheckpointError, match='posix.system'):
        CheckpointLoader.load_checkpoint(str(path))
    assert not marker.exists()


def test_a_plain_pickle_is_refused_and_runs_nothing(tmp_path, marker):
    path = tmp_path / 'plain.pkl'
    path.write_bytes(pickle.dumps(RunsCommand(marker)))
    with pytest.raises(UnsafeCheckpointError):
        CheckpointLoader.load_checkpoint(str(path))
    assert not marker.exists()


def test_the_variable_that_forces_full_unpickling_has_no_effect(hostile, marker, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    with pytest.raises(UnsafeCheckpointError, match='posix.system'):
        CheckpointLoader.load_checkpoint(str(hostile))
    assert not marker.exists()


def test_asking_for_full_unpickling_is_refused(hostile, marker):
    with pytest.raises(ValueError, match='weights_only=False'):
        safe_torch_load(hostile, weights_only=False)
    assert not marker.exists()


@pytest.mark.parametrize(
    'owner, name', [(builtins.getattr, '__self__'), (HistoryBuffer, '__init__'), (np.ndarray, 'tofile')]
)
def test_getattr_hands_out_nothing_but_history_buffer_methods(tmp_path, owner, name):
    path = tmp_path / 'attribute.pth'
    torch.save({'meta': GetsAttribute(owner, name)}, path)
    with pytest.raises(UnsafeCheckpointError, match=rf'refers to \w+\.{name}'):
        CheckpointLoader.load_checkpoint(str(path))


def test_a_file_object_is_read_and_named(tmp_path, hostile):
    buffer = io.BytesIO()
    torch.save({'weight': torch.arange(3)}, buffer)
    buffer.seek(0)
    assert safe_torch_load(buffer)['weight'].tolist() == [0, 1, 2]
    with open(hostile, 'rb') as file, pytest.raises(UnsafeCheckpointError, match='hostile.pth'):
        safe_torch_load(file)


def test_registering_twice_changes_nothing(hostile):
    register_safe_loaders(mmengine.runner.checkpoint)
    register_safe_loaders(mmengine.runner.checkpoint)
    with pytest.raises(UnsafeCheckpointError, match='posix.system'):
        CheckpointLoader.load_checkpoint(str(hostile))


@pytest.mark.parametrize(
    'damage', [lambda data: b'this is no checkpoint at all', lambda data: data[: len(data) // 2], lambda data: b'']
)
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / 'damaged.pth'
    torch.save({'weight': torch.ones(64)}, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RuntimeError, match='damaged.pth'):
        CheckpointLoader.load_checkpoint(str(path))


class TinyModel(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, inputs, mode='tensor'):
        out = self.linear(torch.stack(inputs))
        return {'loss': out.mean()} if mode == 'loss' else out


def tiny_runner(work_dir, **kwargs):
    return Runner(
        TinyModel(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=2, dataset=[{'inputs': torch.ones(2)}] * 4, sampler=dict(type='DefaultSampler')
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.1)),
        param_scheduler=dict(type='MultiStepLR', milestones=[1]),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        experiment_name=f'safe_checkpoint_{work_dir.name}',
        default_scope='mmdml',  # which later tests of this process have, too
        **kwargs,
    )


def test_a_checkpoint_of_mmengines_runner_loads_with_its_message_hub(tmp_path):
    runner = tiny_runner(tmp_path)
    runner.train()
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'epoch_1.pth'), map_location='cpu')
    assert torch.equal(loaded['state_dict']['linear.weight'], runner.model.state_dict()['linear.weight'].cpu())
    buffer = loaded['message_hub']['log_scalars']['train/loss']
    assert isinstance(buffer, HistoryBuffer)
    assert buffer.mean() == MessageHub.get_current_instance().get_scalar('train/loss').mean()
    assert loaded['optimizer']['state'] and loaded['param_schedulers']


@pytest.mark.parametrize('resume', [False, True], ids=['load_from', 'resume'])
def test_hostile_checkpoint_is_refused_by_the_runner_and_runs_nothing(tmp_path, hostile, marker, resume):
    runner = tiny_runner(tmp_path, load_from=str(hostile), resume=resume)
    with pytest.raises(UnsafeCheckpointError, match='posix.system'):
        runner.train()
    assert not marker.exists()


def test_numpy_values_and_weights_load_into_a_model(tmp_path):
    path = tmp_path / 'plain.pth'
    model = torch.nn.Linear(2, 1)
    values = {'scalar': np.float64(1.5), 'array': np.arange(4), 'index': np.int64(3)}
    torch.save({'state_dict': model.state_dict(), 'meta': values}, path)
    other = torch.nn.Linear(2, 1)
    meta = load_checkpoint(other, str(path))['meta']
    assert torch.equal(other.weight, model.weight)
    assert meta['scalar'] == 1.5 and meta['index'] == 3 and meta['array'].tolist() == [0, 1, 2, 3]


def test_a_good_checkpoint_downloads(tmp_path, server):
    torch.save({'weight': torch.arange(3)}, tmp_path / 'good.pth')
    assert CheckpointLoader.load_checkpoint(f'{server}/good.pth')['weight'].tolist() == [0, 1, 2]


def test_missing_torchvision_weights_without_a_network_say_what_to_do(monkeypatch):
    def no_network(*args, **kwargs):
        raise URLError('Name or service not known')

    monkeypatch.setattr('torch.hub.urlopen', no_network)
    with pytest.raises(RuntimeError) as error, explain_missing_weights():
        CheckpointLoader.load_checkpoint('torchvision://resnet50')
    message = str(error.value)
    assert 'https://download.pytorch.org/models/resnet50' in message
    assert 'the network cannot be reached' in message
    assert '--cfg-options model.backbone.init_cfg.checkpoint=' in message
    assert 'model.backbone.init_cfg=None' in message


def test_missing_file_is_named_as_missing(tmp_path):
    path = tmp_path / 'nowhere.pth'
    with pytest.raises(RuntimeError) as error, explain_missing_weights():
        CheckpointLoader.load_checkpoint(str(path))
    assert str(path) in str(error.value) and 'there is no such file' in str(error.value)


def test_a_file_that_the_server_does_not_have_is_named(server):
    with pytest.raises(RuntimeError) as error, explain_missing_weights('my weights'):
        CheckpointLoader.load_checkpoint(f'{server}/nowhere.pth')
    assert f'my weights ({server}/nowhere.pth)' in str(error.value) and '404' in str(error.value)


@pytest.mark.parametrize('error', [ConnectionResetError('reset'), TimeoutError('timed out')])
def test_a_lost_connection_is_explained(error):
    with pytest.raises(RuntimeError, match='weights torchvision://resnet50 could not be loaded'):
        with explain_missing_weights('torchvision://resnet50'):
            raise error


def test_other_errors_while_loading_weights_pass_unchanged(hostile):
    with pytest.raises(UnsafeCheckpointError), explain_missing_weights():
        CheckpointLoader.load_checkpoint(str(hostile))
    with pytest.raises(KeyError, match='layer'), explain_missing_weights():
        raise KeyError('layer')


def test_a_file_that_is_no_checkpoint_is_refused_without_advice_to_load_it_unsafely(tmp_path):
    path = tmp_path / 'picture.pth'
    path.write_bytes(b'\x89PNG\r\n')
    with pytest.raises(UnsafeCheckpointError, match='damaged, or no file written by torch.save') as caught:
        safe_torch_load(str(path))
    assert 'weights_only' not in str(caught.value) and len(str(caught.value)) < 250
