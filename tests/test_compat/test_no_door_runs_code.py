"""No file that a user is handed runs code, opens an address, or writes or removes outside its place.

Each door is tried with a file that leaves a mark. Pickles that run code are tried in test_safe_checkpoint.py and
test_train_and_test_tools.py; here are texts that something might run, and paths that something might trust.
"""

import ast
import http.server
import importlib.util
import shutil
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.runner import CheckpointLoader, Runner
from tiny import REPO, tiny_config, train, weights

from mmdml.apis import get_model
from mmdml.datasets import ImageList
from mmdml.functional.embedding_files import read_columns
from mmdml.registry import MODELS

PLAIN = 'contrastive/contrastive_conv4_omniglot.py'


@pytest.fixture(scope='module')
def finished(pictures, tmp_path_factory):
    """A run of one epoch with a best checkpoint: its config and work dir."""
    folder = tmp_path_factory.mktemp('finished')
    cfg = selecting_config(pictures, folder, train_cfg__max_epochs=1)
    train(cfg)
    return folder


def selecting_config(pictures, folder, **options):
    cfg = tiny_config(pictures, folder, config=PLAIN, **options)
    cfg.merge_from_dict({'default_hooks.checkpoint.save_best': 'retrieval/MAP@R'})
    cfg.train_dataloader.dataset.val_classes = cfg.val_dataloader.dataset.val_classes = 0.25
    cfg.val_dataloader.dataset.split = 'val'
    return cfg


@pytest.fixture
def mark(tmp_path):
    return tmp_path / 'code_was_run'


@pytest.fixture
def hostile(finished, tmp_path, mark):
    """The checkpoint of the run, with texts in it that leave the mark if they are run as a config."""
    checkpoint = torch.load(finished / 'epoch_1.pth', weights_only=False)
    text = f"import os\nopen({str(mark)!r}, 'w')\nmodel = dict(type='ImageEmbedder')\n"
    checkpoint['meta'].update(config=text, cfg=text)
    checkpoint['message_hub']['runtime_info']['cfg'] = text
    checkpoint['message_hub']['resumed_keys']['cfg'] = True
    path = tmp_path / 'hostile.pth'
    torch.save(checkpoint, path)
    return path


def test_the_text_would_run_if_it_were_taken_for_a_config(hostile, mark):
    Config.fromstring(torch.load(hostile, weights_only=False)['meta']['config'], file_format='.py')
    assert mark.exists()


def test_no_loader_returns_the_text_of_a_config(hostile):
    checkpoint = CheckpointLoader.load_checkpoint(str(hostile), map_location='cpu')
    assert not {'config', 'cfg'} & set(checkpoint['meta'])
    assert 'cfg' not in checkpoint['message_hub']['runtime_info']


@pytest.mark.parametrize('resume', [True, False], ids=['resume', 'load_from'])
def test_training_from_a_checkpoint_runs_no_text_of_it(pictures, tmp_path, hostile, mark, resume):
    cfg = selecting_config(pictures, tmp_path / 'run', train_cfg__max_epochs=2)
    cfg.merge_from_dict(dict(resume=resume, load_from=str(hostile)))
    runner = train(cfg)
    assert not mark.exists() and 'open(' not in runner.message_hub.get_info('cfg')


def test_mmengines_own_runner_runs_no_text_of_it_either(pictures, tmp_path, hostile, mark):
    cfg = selecting_config(pictures, tmp_path / 'run', train_cfg__max_epochs=2)
    cfg.merge_from_dict(dict(resume=True, load_from=str(hostile), experiment_name='mmengines_own'))
    Runner.from_cfg(cfg).train()
    assert not mark.exists()


def test_initial_weights_run_no_text(hostile, mark):
    weights = dict(type='Pretrained', checkpoint=str(hostile), prefix='backbone.')
    MODELS.build(dict(type='Conv4', channels=8, init_cfg=weights)).init_weights()
    assert not mark.exists()


def test_a_model_by_its_checkpoint_runs_no_text(pictures, finished, hostile, mark):
    cfg = tiny_config(pictures, finished, config=PLAIN)
    model = get_model(cfg, pretrained=hostile)
    assert torch.equal(
        model.neck.linear.weight, torch.load(hostile, weights_only=False)['state_dict']['neck.linear.weight']
    )
    assert not mark.exists()


def test_publishing_runs_no_text_and_passes_none_on(tmp_path, hostile, mark):
    publish = script('tools/model_converters/publish_model.py').publish
    written = torch.load(publish(hostile, tmp_path / 'model.pth'), weights_only=True)
    assert not mark.exists() and str(mark) not in str(written['meta'])


def test_a_path_that_a_checkpoint_calls_its_best_one_is_not_removed(pictures, tmp_path, finished):
    outside = tmp_path / 'outside'
    outside.mkdir()
    (outside / 'work.txt').write_text('years of it')
    checkpoint = torch.load(finished / 'epoch_1.pth', weights_only=False)
    info = checkpoint['message_hub']['runtime_info']
    info.update(best_ckpt=str(outside), best_score=-1.0, last_ckpt=str(outside), keep_ckpt_ids=[f'/../{outside}', 1])
    for key in ('best_ckpt', 'best_score', 'last_ckpt', 'keep_ckpt_ids'):
        checkpoint['message_hub']['resumed_keys'][key] = True
    torch.save(checkpoint, tmp_path / 'hostile.pth')
    cfg = selecting_config(pictures, tmp_path / 'run', train_cfg__max_epochs=3)
    cfg.merge_from_dict(dict(resume=True, load_from=str(tmp_path / 'hostile.pth')))
    runner = train(cfg)
    assert (outside / 'work.txt').read_text() == 'years of it'
    assert runner.message_hub.get_info('best_ckpt').startswith(str(tmp_path / 'run'))


@pytest.mark.parametrize(
    'state',
    [
        dict(kept=[1], best={'retrieval/MAP@R': dict(score=-1.0, file='../outside.pth')}),
        dict(kept=[1], best={'retrieval/MAP@R': dict(score=-1.0, file='best_/../../outside.pth')}),
        dict(kept=['/../../outside'], best={}),
    ],
)
def test_names_of_files_that_are_no_files_of_a_run_are_refused(pictures, tmp_path, finished, state):
    checkpoint = torch.load(finished / 'epoch_1.pth', weights_only=False)
    checkpoint['mmdml']['hook.CheckpointHook'] = state
    torch.save(checkpoint, tmp_path / 'hostile.pth')
    (tmp_path / 'outside.pth').write_text('kept')
    cfg = selecting_config(pictures, tmp_path / 'run', train_cfg__max_epochs=3)
    cfg.merge_from_dict(dict(resume=True, load_from=str(tmp_path / 'hostile.pth')))
    with pytest.raises(ValueError, match='which no run of mmdml writes'):
        train(cfg)
    assert (tmp_path / 'outside.pth').exists()


def test_the_pointer_to_the_last_checkpoint_leads_nowhere_else(pictures, tmp_path, finished, hostile):
    folder = shutil.copytree(finished, tmp_path / 'run')
    (folder / 'last_checkpoint').write_text(str(hostile))
    runner = train(selecting_config(pictures, folder, train_cfg__max_epochs=2, resume=True))
    assert runner._load_from == str(folder / 'epoch_1.pth')
    assert (folder / 'last_checkpoint').read_text() == 'epoch_2.pth' and hostile.exists()
    assert not torch.equal(weights(runner)['neck.linear.weight'], torch.zeros(()))


class Marks:
    """Unpickling this leaves the mark."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, 'w')


@pytest.mark.parametrize('name', ['e.npz', 'e.npy', 'e.pth', 'e.pkl', 'labels.npy'])
def test_embedding_files_are_not_unpickled(tmp_path, mark, name):
    path = tmp_path / name
    objects = np.array([Marks(mark)], dtype=object)
    if name.endswith('.npz'):
        np.savez(path, embeddings=objects)
    elif name.endswith('.npy'):
        np.save(path, objects, allow_pickle=True)
    else:
        torch.save(Marks(mark), path)
    np.save(tmp_path / 'good.npy', np.eye(2))
    with pytest.raises(ValueError, match=name):
        read_columns(str(tmp_path / 'good.npy'), str(path)) if name == 'labels.npy' else read_columns(str(path))
    assert not mark.exists()


def test_a_list_of_images_opens_no_address(tmp_path, pictures):
    opened = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            opened.append(self.path)
            self.send_error(404)

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        path = tmp_path / 'list.txt'
        path.write_text(f'class_0/0.png a\nhttp://127.0.0.1:{server.server_port}/b.png a\nclass_0/1.png a\n')
        with pytest.raises(ValueError, match='list.txt names http://127.0.0.1:.*b.png, an address'):
            dataset = ImageList(ann_file=str(path), data_prefix=pictures, pipeline=[dict(type='LoadImageFromFile')])
            dataset[1]
        server.shutdown()
        thread.join()
    assert not opened


@pytest.mark.parametrize('name', ['../code_was_run', '/tmp/../code_was_run'])
def test_an_archive_writes_nothing_outside_its_folder(tmp_path, name):
    from mmdml.datasets.preparation.archives import unpack

    archive = tmp_path / 'hostile.zip'
    with zipfile.ZipFile(archive, 'w') as file:
        file.writestr(name, 'outside')
    before = set(tmp_path.rglob('*'))
    with pytest.raises((ValueError, RuntimeError)):
        unpack(str(archive), '', str(tmp_path / 'inside'))
    assert {path for path in set(tmp_path.rglob('*')) - before if 'code_was_run' in path.name} == set()


def test_a_plan_of_experiments_makes_no_objects(tmp_path, mark):
    sys.path.insert(0, f'{REPO}/tools/analysis_tools')
    from experiments import load_plan

    plan = tmp_path / 'plan.yml'
    plan.write_text(f'runs: !!python/object/apply:builtins.open [{mark}, w]\n')
    with pytest.raises((ValueError, yaml.YAMLError)):
        load_plan(plan)
    assert not mark.exists()


def script(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, Path(REPO) / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# What each call must be given to be harmless; None: never.
_DANGEROUS = {
    'eval': None,
    'exec': None,
    'compile': None,
    '__import__': None,
    'pickle.load': None,
    'pickle.loads': None,
    'Config.fromstring': None,
    'os.system': None,
    'yaml.load': 'Loader',
    'np.load': 'allow_pickle=False',
    'numpy.load': 'allow_pickle=False',
    'torch.load': 'weights_only=True',
}
# The ranks of a run send each other what the run itself has made.
_BETWEEN_RANKS = ('mmdml/dist.py pickle.loads',)


@pytest.mark.parametrize('folder', ['mmdml', 'tools'])
def test_no_call_in_the_code_runs_what_it_reads(folder):
    found = []
    for path in sorted((Path(REPO) / folder).rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ''
            if f'{path.relative_to(REPO)} {name}' in _BETWEEN_RANKS:
                continue
            if name in _DANGEROUS and (_DANGEROUS[name] is None or _DANGEROUS[name] not in ast.unparse(node)):
                found.append(f'{path.relative_to(REPO)}:{node.lineno}: {ast.unparse(node)}')
    assert not found
