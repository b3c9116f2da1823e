"""Make a checkpoint of a training run fit for publishing: weights only, named by its content.

    python tools/model_converters/publish_model.py work_dirs/iaa/epoch_90.pth iaa_ms_r50_cub.pth

writes ``iaa_ms_r50_cub-<first 8 hex digits of the file's SHA-256>.pth``. With EMA, MMEngine already stores the averaged
weights under ``state_dict`` and the others under ``ema_state_dict``: the averaged ones are published. With
``--config CONFIG`` the weights must fit the model of that config. Prefixes such as ``module.`` are taken off the names.
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import CheckpointLoader

from mmdml.apis import get_model
from mmdml.cli.errors import run_command
from mmdml.compat.weight_files import weights_of, without_known_prefixes

#: What stays of ``meta``: no paths, times or host names of the training machine.
_META_KEYS = ('dataset_meta', 'mmengine_version', 'epoch', 'iter')


def strip_checkpoint(checkpoint: dict[str, Any], source: str | Path = 'the checkpoint') -> dict[str, Any]:
    """Keep the weights and what names them; optimizer, schedulers, message hub, raw weights and run state go.

    Raises:
        ValueError: if there are no weights.
    """
    weights = without_known_prefixes(weights_of(checkpoint, str(source)))
    meta = checkpoint.get('meta', {})
    return {
        'meta': {key: meta[key] for key in _META_KEYS if key in meta},
        'state_dict': {key: value.detach().cpu().clone() for key, value in weights.items()},
    }


def publish(source: str | Path, target: str | Path, config: str | Path | None = None) -> Path:
    """Strip ``source`` and write it beside ``target`` with the hash in its name.

    Args:
        source: checkpoint of a training run.
        target: file to write.
        config: config whose model the weights must fit.

    Returns:
        The path written.

    Raises:
        UnsafeCheckpointError: if loading ``source`` would run code.
        ValueError: if it holds no weights, or they do not fit the model of ``config``.
    """
    if config is not None:
        get_model(config, pretrained=source)
    checkpoint = strip_checkpoint(CheckpointLoader.load_checkpoint(str(source), map_location='cpu'), source)
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    unnamed = target.with_name(f'{target.name}.tmp')
    torch.save(checkpoint, unnamed)
    digest = hashlib.sha256(unnamed.read_bytes()).hexdigest()[:8]
    return unnamed.rename(target.with_name(f'{target.stem}-{digest}.pth'))


def main() -> None:
    """Publish one checkpoint and say where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='checkpoint of a training run')
    parser.add_argument('target', help='file to write; the hash is put before its suffix')
    parser.add_argument('--config', help='config whose model the weights must fit')
    args = parser.parse_args()
    print(f'written: {publish(args.source, args.target, args.config)}')


if __name__ == '__main__':
    run_command(main)
