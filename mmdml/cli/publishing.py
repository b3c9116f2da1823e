"""Write a model as a folder to pass on: weights only, scores of what is written, licenses."""

import argparse
import copy
import os
import re
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

import mmdml
from mmdml.apis import ImageEmbeddingInferencer, get_model
from mmdml.apis.model_card import LIMITS, model_card, own_limits
from mmdml.apis.model_folder import ModelFolder, embedding_weights, license_texts, write_model_folder
from mmdml.apis.model_names import find_model
from mmdml.apis.named_model import NamedModel
from mmdml.cli.config_options import ConfigOptions
from mmdml.cli.folder_scores import folder_scores
from mmdml.cli.own_data import read_own_data
from mmdml.engine.runner import build_runner
from mmdml.models import ImageEmbedder
from mmdml.utils.dataset_configs import dataset_name, leaf_datasets
from mmdml.utils.names import printable


def publish_model(options: dict[str, Any]) -> Path:
    """Write the folder and return its path, ``OUT/NAME-<first 8 hex digits of the SHA-256 of the weights>``.

    Of a model folder, its licenses and own limits stay, and its tests where its embeddings are the same. The scores
    before and after its training stay; where they are of weights that were not rounded yet, the card says so.

    Args:
        options: of ``mmdml publish``, by name.

    Raises:
        FileExistsError: the folder is there.
        FileNotFoundError: a license, or what is to be scored on, is not there.
        ValueError: the model has no weights, weights too large for fp16, no test data of its own that is asked for, or
            is an exported file; a name that no folder can have; a license that is not ``NAME=FILE``.
    """
    named = find_model(options['model'])
    named.require_weights()
    named.require_pictures()
    config = named.config
    for path in options['tested']:
        read_own_data(path)  # mistakes end here, before any work
    # With other weights than its own, a folder says nothing of the model.
    own = named.folder and Path(named.weights) == Path(named.folder, 'weights.pth')
    source = ModelFolder.read(named.folder) if own else None
    licenses = (license_texts(source.path) if source else {}) | _licenses(options['licenses'])
    limits = [*options['limits'], *(own_limits(source.card) if source else []), *LIMITS]
    classes, facts = source.classes if source else [], _facts(named, source, options)
    if options['config_tests'] and not (config.get('test_dataloader') and config.get('test_evaluator')):
        raise ValueError(f'--config-test: {named.name} has no test data; name a folder or list by --test')
    config_tests = [_with_settings(config, settings) for settings in options['config_tests']]
    model = get_model(options['model'], True, head=None)
    if options['half']:
        model.load_state_dict(embedding_weights(model, half=True), strict=False)
    embed = ImageEmbeddingInferencer(model, pipeline=config.test_dataloader.dataset.pipeline)
    facts['tests'] = [_test(embed, path, classes, facts['name']) for path in options['tested']]
    for changed, settings in zip(config_tests, options['config_tests'], strict=True):
        facts['tests'].append(_config_test(changed, settings, model, facts['name']))
    if source and embed.model_hash != source.model_hash and facts.get('scores'):
        facts['scored_on'] += ' by the weights of the training, before rounding to fp16'
    if source and embed.model_hash == source.model_hash:
        scored = [test['scored_on'] for test in facts['tests']]
        facts['tests'] += [test for test in source.training.get('tests', []) if test['scored_on'] not in scored]
    text = model_card(facts, list(dict.fromkeys(limits)), list(licenses))
    out = Path(options['out'])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix='.publishing-') as beside:
        folder = Path(beside) / 'model'
        written = write_model_folder(folder, config, model, classes, facts, text, options['half'], licenses=licenses)
        target = out / f'{facts["name"]}-{written.weights_hash[:8]}'
        if os.path.lexists(target):
            raise FileExistsError(f'{target} exists already: the same weights were published under this name')
        folder.rename(target)
    return target


def _licenses(given: Sequence[str]) -> dict[str, str]:
    pairs = [each.partition('=')[::2] for each in given]
    for name, path in pairs:
        if not name or not path or os.path.basename(name) != name:
            raise ValueError(f'--license {name}={path}: write NAME=FILE')
        if not os.path.isfile(path):
            raise FileNotFoundError(f'--license {name}={path}: there is no such file')
    return dict(pairs)


def _facts(named: NamedModel, source: ModelFolder | None, options: dict[str, Any]) -> dict[str, Any]:
    own = source.training.get('name') if source else None
    name = options['name']
    if name is None:
        name = own or Path(named.folder or named.name.partition(':')[0]).stem
    if not re.fullmatch(r'\w[^/\\:\x00-\x1f]*', name):
        raise ValueError(
            f'{printable(name)!r} cannot be the name of a model, which becomes that of a folder: begin it with a '
            'letter or digit, without slash, backslash, colon or line end; give one by --name'
        )
    given = dict(
        name=name,
        data=options['data'],
        command=options['command'],
        commit=options['commit'],
        precision='fp16' if options['half'] else 'fp32',
        published_with=f'mmdml {mmdml.__version__}',
    )
    return (source.training if source else {}) | {key: value for key, value in given.items() if value is not None}


def _test(embed: ImageEmbeddingInferencer, path: str, classes: Sequence[str], name: str) -> dict[str, Any]:
    found = folder_scores(embed, path, classes)
    words = f'{found["pictures"]:,} pictures of {found["classes"]:,} classes ({read_own_data(path).name})'
    if found['trained_on']:
        words += f', {found["trained_on"]} of them trained on'
    command = shlex.join(['mmdml', 'test', path, '--model', name])
    return dict(
        scored_on=words, command=command, scores={name: round(value, 2) for name, value in found['scores'].items()}
    )


def _with_settings(config: Config, settings: str) -> Config:
    """Return a config of a test with settings as --cfg-options of the tools has them."""
    parser = argparse.ArgumentParser(prog='--config-test', add_help=False)
    parser.add_argument('settings', nargs='*', action=ConfigOptions)
    changed = copy.deepcopy(config)
    changed.merge_from_dict(parser.parse_args(shlex.split(settings)).settings or {})
    return changed


def _config_test(config: Config, settings: str, model: ImageEmbedder, name: str) -> dict[str, Any]:
    """Score a model on the test data of a config, as ``tools/test.py NAME --cfg-options SETTINGS`` does."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(dict(state_dict=embedding_weights(model)), f'{folder}/weights.pth')
        run = dict(load_from=f'{folder}/weights.pth', work_dir=folder, launcher='none', log_level='WARNING')
        # Two runs of one name and second share a visualizer, whose folder is that of the first.
        run['experiment_name'] = Path(folder).name
        runner = build_runner(Config({**config.to_dict(), **run}))
        found = runner.test()
    dataset = runner.test_dataloader.dataset
    kind = dataset_name(next(leaf_datasets(config.test_dataloader.dataset)))
    command = ['python', 'tools/test.py', name, *(['--cfg-options', *shlex.split(settings)] if settings else [])]
    return dict(
        scored_on=f'{len(dataset):,} pictures of {len(dataset.metainfo["classes"]):,} classes ({kind}, test)',
        command=shlex.join(command),
        scores={key.removeprefix('retrieval/'): round(float(value), 2) for key, value in found.items()},
    )
