"""What a training on pictures leaves: the folder of the model with its card, and what to do next."""

import shlex
import sys
from pathlib import Path

from mmengine.config import Config

import mmdml
from mmdml.apis.model_card import model_card
from mmdml.apis.model_folder import ModelFolder, license_texts, write_model_folder
from mmdml.cli.console import ToolRunner
from mmdml.cli.frozen_training import is_frozen, joined
from mmdml.cli.own_data import OwnData
from mmdml.engine.hooks.console_hook import SCORES_BEFORE
from mmdml.engine.model_of import model_of
from mmdml.utils.collect_env import git_commit
from mmdml.utils.machine import describe_machine


def write_model(run: Path, cfg: Config, runner: ToolRunner, data: OwnData) -> ModelFolder:
    """Write the model of a run into its folder, with a card, and return it."""
    hub = runner.message_hub
    trained = runner.train_dataloader.dataset
    held_out = None if runner.val_loop is None else runner.val_dataloader.dataset
    facts = dict(
        name=run.name,
        starts_from=cfg.model_name,
        data=f'{data.name}: {len(trained):,} pictures of {len(trained.metainfo["classes"]):,} classes',
        command=shlex.join(['mmdml', *sys.argv[1:]]),
        commit=git_commit(),
        version=mmdml.__version__,
        machine=describe_machine(),
        loss=cfg.model.head.loss.type,
        image_size=cfg.image_size,
        epochs=runner.epoch,
        updates=runner.iter,
    )
    if held_out is not None:
        names = [key for kind in ('/Recall', '/MAP') for key in hub.log_scalars if kind in key]
        last = {key.removeprefix('val/'): hub.get_scalar(key).current() for key in names}
        before = hub.get_info(SCORES_BEFORE)
        facts['scored_on'] = f'{len(held_out):,} pictures of {len(held_out.metainfo["classes"]):,} held-out classes'
        facts['scores'] = {
            key.removeprefix('retrieval/'): [round(float(before[key]), 2), round(float(value), 2)]
            for key, value in last.items()
        }
    classes, model = trained.metainfo['classes'], model_of(runner)
    if is_frozen(cfg):
        cfg, model = joined(cfg, model.neck)
    # The folder is this run's own: what a run that was killed while writing left of a model is its own, too.
    card = model_card(facts, licenses=list(license_texts(run)))
    return write_model_folder(run, cfg, model, classes, facts, card, replace_unfinished=True)


def next_steps(folder: ModelFolder, pictures: str) -> str:
    """Return what became of a training, and the commands that search pictures by its model.

    Args:
        folder: of the model.
        pictures: folder to search.
    """
    facts, model = folder.training, folder.path
    lines = [f'The model is the folder {model}']
    if 'scores' in facts:
        before, after = facts['scores']['Recall@1']
        lines[0] += f': Recall@1 {before:.1f} before, {after:.1f} after the training, on {facts["scored_on"]}'
        if after < before:
            lines.append(
                'The training did not help. More epochs, a lower --lr or more classes may; keep the first model.'
            )
    # A store of its own: one of another model refuses the vectors of this one.
    store = shlex.quote(f'{model.name}.store')
    return '\n'.join(
        [
            *lines,
            'Next, a page that searches your pictures:',
            f'  mmdml index {shlex.quote(pictures)} --store {store} --model {shlex.quote(str(model))}',
            f'  mmdml serve {store}',
        ]
    )
