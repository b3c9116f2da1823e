"""Models by name: from this checkout, from a copy as a wheel installs it, with and without weights."""

import glob
import os
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from mmengine.config import Config
from tiny import REPO

import mmdml.apis.model_names as model_names
import mmdml.apis.models as models
from mmdml.apis import get_model, list_models
from mmdml.compat.safe_checkpoint import UnsafeCheckpointError
from mmdml.models import ImageEmbedder

NAME = 'contrastive_conv4_omniglot'
SMALL = dict(backbone=dict(channels=8), neck=dict(in_channels=8, embed_dim=6))


@pytest.fixture
def checkpoint(tmp_path):
    """A small model and the file that its weights are in, as a run of several processes names them."""
    model = get_model(NAME, **SMALL)
    path = tmp_path / 'epoch_1.pth'
    torch.save({'meta': {'epoch': 1}, 'state_dict': {f'module.{k}': v for k, v in model.state_dict().items()}}, path)
    return model, path


def metafile_names():
    folder = os.path.join(REPO, 'configs')
    files = glob.glob(os.path.join(folder, '*', 'metafile.yml'))
    return [model['Name'] for file in files for model in yaml.safe_load(open(file, encoding='utf-8'))['Models']]


def test_all_models_of_the_metafiles_are_listed_once():
    assert sorted(list_models()) == sorted(metafile_names())


def test_a_pattern_is_matched_against_the_whole_name():
    assert list_models('iaa_ms_*_cub') == [
        'iaa_ms_bninception_cub',
        'iaa_ms_googlenet_cub',
        'iaa_ms_r50_cub',
    ]
    assert list_models('iaa') == []
    assert NAME in list_models('contrastive_conv4_?mniglot')


def test_names_are_in_natural_order(monkeypatch):
    names = ['dc_k16_r50', 'dc_k8_r101', 'dc_k8_r50', 'dc', '8_dc']
    monkeypatch.setattr(models, 'model_index', lambda: dict.fromkeys(names))
    assert list_models() == ['8_dc', 'dc', 'dc_k8_r50', 'dc_k8_r101', 'dc_k16_r50']


def test_a_model_embeds_pictures_in_evaluation_mode_on_its_device():
    model = get_model(NAME, device='cpu', **SMALL)
    assert isinstance(model, ImageEmbedder) and not any(part.training for part in model.modules())
    unit = model(torch.rand(2, 1, 28, 28))
    assert unit.shape == (2, 6) and unit.device.type == 'cpu'
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(2))
    assert {parameter.device.type for parameter in get_model(NAME, device='meta').parameters()} == {'meta'}


def test_a_name_a_path_and_a_config_build_the_same_model():
    path = os.path.join(REPO, 'configs/contrastive', f'{NAME}.py')
    config = Config.fromfile(path)
    shapes = [
        {key: value.shape for key, value in get_model(each, **SMALL).state_dict().items()}
        for each in (NAME, path, config)
    ]
    assert shapes[0] == shapes[1] == shapes[2] != {}
    assert config.model.neck.embed_dim == 128, 'overrides must not reach the config of the caller'


def test_weights_of_a_checkpoint_are_loaded(checkpoint):
    model, path = checkpoint
    loaded = get_model(NAME, pretrained=path, **SMALL)
    pictures = torch.rand(2, 1, 28, 28)
    assert torch.equal(loaded(pictures), model(pictures))
    assert not torch.equal(get_model(NAME, **SMALL)(pictures), model(pictures))


def test_published_weights_are_those_of_the_metafile(checkpoint, monkeypatch):
    model, path = checkpoint
    entry = {'Name': NAME, 'Config': f'configs/contrastive/{NAME}.py', 'Weights': str(path)}
    monkeypatch.setattr(model_names, 'model_index', lambda: {NAME: entry})
    pictures = torch.rand(2, 1, 28, 28)
    assert torch.equal(get_model(NAME, pretrained=True, **SMALL)(pictures), model(pictures))


@pytest.mark.parametrize('kind', ['name', 'config'])
def test_asking_for_weights_that_were_not_published_says_so(kind):
    path = os.path.join(REPO, 'configs/contrastive', f'{NAME}.py')
    model = NAME if kind == 'name' else Config.fromfile(path)
    with pytest.raises(ValueError, match=f'no weights were published for .*{NAME}.*pass pretrained='):
        get_model(model, pretrained=True)


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(ValueError, match=f"no folder and no model 'contrastive_conv4_omniglo'; the nearest are {NAME}"):
        get_model('contrastive_conv4_omniglo')
    with pytest.raises(ValueError, match="no folder and no model 'xyz'; mmdml list has all"):
        get_model('xyz')


def test_a_missing_config_and_a_config_without_model_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='nothing.py'):
        get_model(tmp_path / 'nothing.py')
    (tmp_path / 'data.py').write_text('x = 1\n')
    with pytest.raises(ValueError, match='data.py has no entry "model"'):
        get_model(tmp_path / 'data.py')


def test_a_checkpoint_of_another_model_is_refused(checkpoint, tmp_path):
    model, _ = checkpoint
    state = model.state_dict()
    key = next(key for key in state if key.startswith('neck.'))
    state['backbone.more'] = state.pop(key)
    torch.save(state, tmp_path / 'cut.pth')
    with pytest.raises(ValueError, match=rf'it lacks: 1 \({key}\) .* model lacks: 1 \(backbone.more\)'):
        get_model(NAME, pretrained=tmp_path / 'cut.pth', **SMALL)
    torch.save(model.state_dict(), tmp_path / 'whole.pth')
    with pytest.raises(ValueError, match=r'another shape, e.g. backbone.blocks.0.weight: \[8, 1, 3, 3\] in the file'):
        get_model(NAME, pretrained=tmp_path / 'whole.pth')
    torch.save([], tmp_path / 'empty.pth')
    with pytest.raises(ValueError, match='empty.pth holds no weights'):
        get_model(NAME, pretrained=tmp_path / 'empty.pth')


def test_weights_of_the_head_may_differ(checkpoint, tmp_path):
    model, _ = checkpoint
    torch.save({**model.state_dict(), 'head.loss_fn.proxies': torch.zeros(3, 6)}, tmp_path / 'proxies.pth')
    loaded = get_model(NAME, pretrained=tmp_path / 'proxies.pth', **SMALL)
    pictures = torch.rand(2, 1, 28, 28)
    assert torch.equal(loaded(pictures), model(pictures))


class Hostile:
    def __reduce__(self):
        return os.system, ('true',)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    torch.save({'state_dict': Hostile()}, tmp_path / 'hostile.pth')
    with pytest.raises(UnsafeCheckpointError, match='system'):
        get_model(NAME, pretrained=tmp_path / 'hostile.pth')


def test_an_installed_copy_lists_and_builds_without_the_checkout(tmp_path):
    # As in a wheel: files in place of the links below .mim.
    skipped = shutil.ignore_patterns('__pycache__', 'data')
    shutil.copytree(os.path.join(REPO, 'mmdml'), tmp_path / 'site/mmdml', ignore=skipped)
    code = (
        'import sys, mmdml.apis as apis\n'
        'names = apis.list_models()\n'
        "heavy = {'torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain', 'cv2'} & set(sys.modules)\n"
        f'model = apis.get_model({NAME!r})\n'
        'print(apis.__file__, len(names), sorted(heavy), type(model).__name__)\n'
    )
    environment = os.environ | dict(PYTHONPATH=str(tmp_path / 'site'))
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    expected = f'{tmp_path / "site/mmdml/apis/__init__.py"} {len(metafile_names())} [] ImageEmbedder'
    assert done.stdout.splitlines()[-1] == expected


@pytest.mark.parametrize('model', [None, 123])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(TypeError, match=f'model must be a name, the path of a config or a config, got {model}'):
        get_model(model)
