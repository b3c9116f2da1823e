"""What a training on pictures leaves: the folder of the model with its card, and what to do next."""

import shlex
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.logging import MessageHub

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
        facts['scored_on'] = f'{len(held_out):,} pictures of {len(held_out.metainfo["classes"]):,} held-out classes'
        facts['scores'] = scores_before_and_after(hub)
    # The one that was evaluated: where weights are averaged, their average.
    averages = [hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook)]
    classes, model = trained.metainfo['classes'], (averages or [model_of(runner)])[0]
    if is_frozen(cfg):
        cfg, model = joined(cfg, model.neck)
    # The folder is this run's own: what a run that was killed while writing left of a model is its own, too.
    card = model_card(facts, licenses=list(license_texts(run)))
    return write_model_folder(run, cfg, model, classes, facts, card, replace_unfinished=True)


def scores_before_and_after(hub: MessageHub) -> dict[str, list[float]]:
    """Return the scores that a run has from before its first update and from its last evaluation, by name.

    They are whichever the metrics of the recipe name; what only one of the two evaluations has is left out.

    Args:
        hub: of the run.
    """
    before = hub.get_info(SCORES_BEFORE, {})
    last = {key: hub.get_scalar(f'val/{key}').current() for key in before if f'val/{key}' in hub.log_scalars}
    return {
        key.removeprefix('retrieval/'): [round(float(before[key]), 2), round(float(value), 2)]
        for key, value in last.items()
    }


def next_steps(folder: ModelFolder, pictures: str) -> str:
    """Return what became of a training, and the commands that search pictures by its model.

    Args:
        folder: of the model.
        pictures: folder to search.
    """
    facts, model = folder.training, folder.path
    lines = [f'The model is the folder {model}']
    if facts.get('scores'):
        # A recipe need not have this score.
        name = 'Recall@1' if 'Recall@1' in facts['scores'] else next(iter(facts['scores']))
        before, after = facts['scores'][name]
        lines[0] += f': {name} {before:.1f} before, {after:.1f} after the training, on {facts["scored_on"]}'
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
