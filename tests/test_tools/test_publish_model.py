import hashlib
import importlib.util
import os
import pickle
from pathlib import Path

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.logging import HistoryBuffer
from torch import nn

from mmdml.compat.safe_checkpoint import UnsafeCheckpointError

SCRIPT = Path(__file__).parents[2] / 'tools/model_converters/publish_model.py'
spec = importlib.util.spec_from_file_location('publish_model', SCRIPT)
publish_model = importlib.util.module_from_spec(spec)
spec.loader.exec_module(publish_model)


def write_checkpoint(path, **more):
    weights = {'neck.weight': torch.arange(6.0).reshape(2, 3)}
    torch.save({'meta': {'epoch': 3, 'iter': 30, 'cfg': 'data_root = "/home/me"'}, 'state_dict': weights, **more}, path)
    return weights


def test_only_weights_and_their_description_stay(tmp_path):
    weights = write_checkpoint(
        tmp_path / 'epoch_3.pth',
        optimizer={'state': {0: torch.ones(3)}},
        param_schedulers=[{'last_step': 3}],
        message_hub={'log_scalars': {'train/loss': HistoryBuffer([1.0], [1])}},
        mmdml={'bank': torch.ones(5, 2)},
    )
    published = torch.load(publish_model.publish(tmp_path / 'epoch_3.pth', tmp_path / 'out/model.pth'))
    assert set(published) == {'meta', 'state_dict'}
    assert published['meta'] == {'epoch': 3, 'iter': 30}
    assert set(published['state_dict']) == set(weights)
    assert torch.equal(published['state_dict']['neck.weight'], weights['neck.weight'])


def test_the_name_ends_in_the_hash_of_the_file(tmp_path):
    write_checkpoint(tmp_path / 'epoch_3.pth')
    path = publish_model.publish(tmp_path / 'epoch_3.pth', tmp_path / 'model.pth')
    assert path.name == f'model-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth'
    assert sorted(os.listdir(tmp_path)) == ['epoch_3.pth', path.name]


def test_averaged_weights_are_published(tmp_path):
    class Runner:
        model = nn.Linear(2, 1, bias=False)

    hook = EMAHook(momentum=0.5)
    hook.before_run(Runner)
    average = Runner.model.weight.detach().clone()
    hook.ema_model.update_parameters(Runner.model)
    with torch.no_grad():
        Runner.model.weight += 1
    hook.ema_model.update_parameters(Runner.model)
    checkpoint = {'state_dict': Runner.model.state_dict()}
    hook.before_save_checkpoint(Runner, checkpoint)
    torch.save(checkpoint, tmp_path / 'ema.pth')
    published = torch.load(publish_model.publish(tmp_path / 'ema.pth', tmp_path / 'model.pth'))
    assert 'ema_state_dict' not in published
    torch.testing.assert_close(published['state_dict']['weight'], average + 0.5)


def test_a_checkpoint_without_weights_is_refused(tmp_path):
    torch.save({'meta': {}, 'optimizer': {}}, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=r"holds no weights: its entries are \['meta', 'optimizer'\]"):
        publish_model.publish(tmp_path / 'x.pth', tmp_path / 'model.pth')


def test_prefixes_of_wrappers_are_taken_off(tmp_path):
    torch.save({'state_dict': {'module._orig_mod.neck.weight': torch.ones(2)}}, tmp_path / 'x.pth')
    published = torch.load(publish_model.publish(tmp_path / 'x.pth', tmp_path / 'model.pth'))
    assert list(published['state_dict']) == ['neck.weight']


def test_weights_that_do_not_fit_the_config_are_not_published(tmp_path):
    write_checkpoint(tmp_path / 'epoch_3.pth')
    with pytest.raises(ValueError, match='epoch_3.pth does not fit the model'):
        publish_model.publish(tmp_path / 'epoch_3.pth', tmp_path / 'model.pth', 'ms_conv4_omniglot')
    assert os.listdir(tmp_path) == ['epoch_3.pth']


class _Hostile:
    def __reduce__(self):
        return os.mkdir, ('code_ran',)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('x.pth').write_bytes(pickle.dumps({'state_dict': _Hostile()}))
    with pytest.raises(UnsafeCheckpointError):
        publish_model.publish('x.pth', 'model.pth')
    assert os.listdir() == ['x.pth']
