"""One way to name a model: each kind finds its config and weights, and mistakes are named."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmdml.apis import ImageEmbeddingInferencer, get_config, get_model
from mmdml.apis.model_facts import model_facts
from mmdml.apis.model_folder import ModelFolder, embedding_weights, write_model_folder
from mmdml.apis.model_names import find_model
from mmdml.apis.timm_models import _pipeline

NAME = 'ms_conv4_omniglot'
SMALL = dict(backbone=dict(channels=8), neck=dict(in_channels=8, embed_dim=6))
PICTURES = [np.full((28, 28), value, np.uint8) for value in (30, 90, 255)] + [np.eye(28, dtype=np.uint8) * 255]


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """A small config and checkpoint, and a model folder of both."""
    folder = tmp_path_factory.mktemp('small')
    config = get_config(NAME)
    config.merge_from_dict(dict(model=SMALL))
    config.dump(str(folder / 'small.py'))
    torch.manual_seed(0)
    model = get_model(config)
    torch.save(dict(state_dict=model.state_dict()), folder / 'small.pth')
    facts = dict(classes=['a', 'b'], training=dict(data='letters'), card='# Small\n')
    write_model_folder(folder / 'model', config, model, **facts)
    write_model_folder(folder / 'half', config, model, half=True)
    return folder


def embedder(name):
    return ImageEmbeddingInferencer(name, device='cpu', progress=False)


def test_a_folder_is_the_model_that_its_config_and_checkpoint_are(small):
    folder, pair = embedder(small / 'model'), embedder(f'{small}/small.py:{small}/small.pth')
    np.testing.assert_array_equal(folder(PICTURES).embeddings, pair(PICTURES).embeddings)
    assert folder.model_hash == pair.model_hash == ModelFolder.read(small / 'model').model_hash
    weights = get_model(small / 'model').state_dict()
    assert all(torch.equal(weights[key], value) for key, value in get_model(small / 'model', True).state_dict().items())
    assert get_model(small / 'model').head is None


def test_a_backbone_with_adapters_is_written_with_what_is_frozen_in_it(tmp_path):
    config = get_config('timm/test_vit')
    config.model.backbone = dict(type='LoRABackbone', backbone=config.model.backbone)
    torch.manual_seed(0)
    model = get_model(config, pretrained=False)
    write_model_folder(tmp_path / 'model', config, model)
    pictures = torch.rand(1, 3, 160, 160)
    assert torch.equal(get_model(tmp_path / 'model')(pictures), model(pictures))
    # What is frozen is rounded, too, and scored so before it is written.
    write_model_folder(tmp_path / 'half', config, model, half=True)
    model.load_state_dict(embedding_weights(model, half=True), strict=False)
    assert torch.equal(get_model(tmp_path / 'half')(pictures), model(pictures))


def test_half_precision_is_another_model_that_embeds_nearly_the_same(small):
    whole, half = embedder(small / 'model'), embedder(small / 'half')
    assert half.model_hash == ModelFolder.read(small / 'half').model_hash != whole.model_hash
    cosines = (whole(PICTURES).embeddings * half(PICTURES).embeddings).sum(1)
    assert cosines.min() > 0.9999 and next(half.embedder.model.parameters()).dtype == torch.float32


def test_a_folder_says_what_it_is_and_is_never_overwritten(small):
    folder = ModelFolder.read(small / 'model')
    assert folder.classes == ['a', 'b'] and folder.training == dict(data='letters')
    assert (folder.path / 'README.md').read_text() == '# Small\n'
    with pytest.raises(FileExistsError, match='exists already'):
        write_model_folder(small / 'model', get_config(small / 'small.py'), get_model(small / 'small.py'))
    assert not list(small.glob('.*'))


@pytest.mark.parametrize(
    'name, fault',
    [
        ('{0}/missing.onnx', 'there is no exported model'),
        ('{0}/missing.py', 'there is no config'),
        ('{0}', 'is no model folder: it has no model.json'),
        ('{0}/small.py:', 'a checkpoint is missing after the colon'),
        ('{0}/small.py:{0}/none.pth', 'there is no file of weights .*none.pth'),
        ('{0}/small.py', 'no weights were published for .*small.py; write MODEL:CHECKPOINT'),
        ('{0}/modell', r"no folder and no model '.*modell'; the nearest are .*/model\b"),
        ('timm/test_vi', "has no model 'test_vi'; the nearest are .*test_vit"),
        ('timm/test_vit:{0}/none.pth', 'there is no file of weights .*none.pth'),
    ],
)
def test_mistakes_in_a_name_end_in_a_line(small, name, fault):
    with pytest.raises((FileNotFoundError, ValueError), match=fault) as found:
        embedder(name.format(small))
    assert '\n' not in str(found.value)


def test_untrained_takes_what_the_config_names_and_no_more(small):
    config = Config.fromfile(small / 'small.py')
    part = {
        k.removeprefix('backbone.'): v for k, v in get_model(small / 'model').state_dict().items() if 'backbone' in k
    }
    torch.save(part, small / 'backbone.pth')
    config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(small / 'backbone.pth'))
    config.dump(str(small / 'pretrained.py'))
    model = get_model(f'{small}/pretrained.py:untrained')
    assert all(torch.equal(model.backbone.state_dict()[key], value) for key, value in part.items())


def test_an_untrained_model_is_the_same_in_every_process(tmp_path):
    name, picture = 'ms_conv4_omniglot:untrained', np.arange(784, dtype=np.uint8).reshape(28, 28)
    torch.manual_seed(1)
    code = (
        'import sys, numpy as np; from mmdml.apis import ImageEmbeddingInferencer as Embed\n'
        f"picture = np.arange(784, dtype=np.uint8).reshape(28, 28); found = Embed('{name}', device='cpu')(picture)\n"
        'np.save(sys.argv[1], found.embeddings)'
    )
    # Other numbers of threads add up in another order.
    environment = {**os.environ, 'OMP_NUM_THREADS': str(torch.get_num_threads())}
    subprocess.run([sys.executable, '-c', code, str(tmp_path / 'other.npy')], check=True, env=environment)
    state = torch.get_rng_state()
    embed = ImageEmbeddingInferencer(name, device='cpu', progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(embed(picture).embeddings, np.load(tmp_path / 'other.npy'))
    whole = get_model(name)
    assert whole.head is not None and embed.embedder.model.head is None
    for key, value in embed.embedder.model.state_dict().items():
        assert torch.equal(whole.state_dict()[key], value), key
    unnamed = ImageEmbeddingInferencer('ms_conv4_omniglot', pretrained=False, device='cpu', progress=False)
    assert unnamed.model_hash == embed.model_hash


def test_a_model_of_timm_embeds_as_timm_does():
    import timm
    from PIL import Image

    torch.manual_seed(0)
    model = get_model('timm/test_vit', pretrained=False)
    own = timm.create_model('test_vit', num_classes=0).eval()
    own.load_state_dict(model.backbone.timm_model.state_dict())
    data = timm.data.resolve_model_data_config(own)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    pipeline = get_config('timm/test_vit').test_dataloader.dataset.pipeline
    ours = ImageEmbeddingInferencer(model, pipeline=pipeline, progress=False)(picture).embeddings[0]
    with torch.no_grad():
        theirs = own(timm.data.create_transform(**data, is_training=False)(picture)[None])[0]
    theirs = torch.nn.functional.normalize(theirs, dim=0).numpy()
    assert float(ours @ theirs) > 0.9999


@pytest.mark.parametrize('mode', ['center', 'squash'])
def test_pictures_are_prepared_for_a_model_of_timm_as_its_weights_need(mode):
    import timm
    from mmengine.dataset import Compose
    from mmengine.registry import DefaultScope
    from PIL import Image

    data = dict(input_size=(3, 60, 60), crop_pct=0.9, crop_mode=mode, interpolation='bicubic')
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    with DefaultScope.overwrite_default_scope('mmdml'):
        steps = Compose(_pipeline(data)[1:])
    ours = steps(dict(img=pixels, img_shape=(200, 300), ori_shape=(200, 300), img_path=''))['inputs']
    transform = timm.data.create_transform(**data, is_training=False, mean=(0, 0, 0), std=(1, 1, 1))
    assert (ours - 255 * transform(Image.fromarray(pixels))).abs().max() < 1e-3


def test_without_network_a_model_of_timm_names_the_way_around_it(monkeypatch, tmp_path):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    with pytest.raises(RuntimeError, match='Without network, get the file elsewhere and write timm/test_vit:FILE'):
        get_model('timm/test_vit')


def test_weights_in_the_layout_of_timm_are_read_from_a_file(tmp_path):
    import timm

    torch.manual_seed(1)
    torch.save(timm.create_model('test_vit').state_dict(), tmp_path / 'vit.pth')
    model = get_model(f'timm/test_vit:{tmp_path}/vit.pth')
    expected = torch.load(tmp_path / 'vit.pth')['norm.weight'], torch.load(tmp_path / 'vit.pth')['pos_embed']
    found = model.backbone.timm_model.norm.weight, model.backbone.timm_model.pos_embed
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_finding_a_model_loads_no_torch(small):
    code = (
        'import sys\nfrom mmdml.apis.model_names import find_model\nimport mmdml.apis.embedding_inferencer\n'
        f'print(find_model({NAME!r}).kind, find_model({str(small / "small.py")!r}).kind)\n'
        'print(sorted({"torch", "mmengine"} & set(sys.modules)))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == 'indexed config\n[]\n'


@pytest.mark.parametrize(
    'settings',
    [
        dict(model=dict(backbone=dict(type='os.system', command='touch {mark}'))),
        dict(model=dict(backbone=dict(type='mmengine.load', file='{mark}'))),
        dict(model=dict(backbone=dict(type='mmpretrain.OnlyThatIsNotThere'))),
        dict(model=dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='{mark}')))),
        dict(pipeline=[dict(type='mmdml.cli.main.main')]),
        dict(format=2),
        dict(weights_hash='0' * 64),
    ],
    ids=lambda settings: str(settings)[:40],
)
def test_settings_that_are_no_layers_are_refused_before_anything_is_built(small, tmp_path, settings):
    shutil.copytree(small / 'model', tmp_path / 'model')
    content = json.loads((tmp_path / 'model/model.json').read_text())
    for key, value in json.loads(json.dumps(settings).replace('{mark}', str(tmp_path / 'mark'))).items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    (tmp_path / 'model/model.json').write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match='is no layer|is no transform|no setting of a model folder|reads 1|not the weights'
    ):
        get_model(tmp_path / 'model')
    assert not (tmp_path / 'mark').exists()


@pytest.mark.parametrize(
    'settings', [dict(pipeline=[1]), dict(classes=[1]), dict(model=dict(neck='x')), dict(model=dict(backbone=None))]
)
def test_settings_of_the_wrong_kind_are_named(small, tmp_path, settings):
    shutil.copytree(small / 'model', tmp_path / 'model')
    file = tmp_path / 'model/model.json'
    content = json.loads(file.read_text())
    for key, value in settings.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf'model.json: an entry of {next(iter(settings))} is of the wrong kind'):
        get_model(tmp_path / 'model')
    file.write_text('[' * 100_000)
    with pytest.raises(ValueError, match=r'model.json cannot be read'):
        get_model(tmp_path / 'model')


def test_settings_that_a_part_lacks_or_refuses_are_named(small, tmp_path):
    shutil.copytree(small / 'model', tmp_path / 'model')
    file = tmp_path / 'model/model.json'
    whole = file.read_text()
    content = json.loads(whole)
    del content['model']['neck']['in_channels']
    file.write_text(json.dumps(content))
    for read in (get_model, model_facts):
        with pytest.raises(ValueError, match=r"model/model.json: .*Embedding.__init__\(\) missing .*'in_channels'"):
            read(str(tmp_path / 'model'))
    content = json.loads(whole)
    content['model']['neck']['embed_dim'] = -3
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'model/model.json: embed_dim '):
        get_model(tmp_path / 'model')
    content = json.loads(whole)
    content['pipeline'].append(dict(type='mmpretrain.CenterCrop'))
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"model/model.json: CenterCrop.__init__\(\) missing .*'crop_size'"):
        ImageEmbeddingInferencer(str(tmp_path / 'model'))


def test_a_name_with_absolute_paths_means_the_same_beside_folders_of_its_name(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ('default', 'timm/test_vit', 'untrained', 'ms_conv4_omniglot'):
        (tmp_path / folder).mkdir(parents=True)
    for name in ('default', 'timm/test_vit', 'default:untrained', 'timm/test_vit:untrained'):
        assert find_model(name).absolute == name
    shutil.copytree(small / 'model', tmp_path / 'run:2')
    assert find_model('run:2').absolute == str(tmp_path / 'run:2')
    shutil.copy(small / 'small.py', tmp_path / 'small.py')
    (tmp_path / 'weights.pth').touch()
    assert find_model('small.py:weights.pth').absolute == f'{tmp_path}/small.py:{tmp_path}/weights.pth'
    assert find_model('small.py:untrained').absolute == f'{tmp_path}/small.py:untrained'
    assert find_model('default:weights.pth').absolute == f'default:{tmp_path}/weights.pth'
