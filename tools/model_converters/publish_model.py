"""Make a checkpoint of a training run fit for publishing: weights only, named by its content.

    python tools/model_converters/publish_model.py work_dirs/iaa/epoch_90.pth iaa_ms_r50_cub.pth

writes ``iaa_ms_r50_cub-<first 8 hex digits of the file's SHA-256>.pth``. With EMA, MMEngine already stores the averaged
weights under ``state_dict`` and the others under ``ema_state_dict``: the averaged ones are published.
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import CheckpointLoader

import mmdml.registry  # noqa: F401  from here on a checkpoint that would run code is refused

#: What stays of ``meta``: no paths, times or host names of the training machine.
_META_KEYS = ('dataset_meta', 'mmengine_version', 'epoch', 'iter')


def strip_checkpoint(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Keep the weights and what names them; optimizer, schedulers, message hub, raw weights and run state go.

    Raises:
        ValueError: if there are no weights under ``state_dict``.
    """
    if not checkpoint.get('state_dict'):
        raise ValueError(f'no weights under "state_dict"; the checkpoint holds {sorted(checkpoint)}')
    meta = checkpoint.get('meta', {})
    return {
        'meta': {key: meta[key] for key in _META_KEYS if key in meta},
        'state_dict': {key: value.detach().cpu().clone() for key, value in checkpoint['state_dict'].items()},
    }


def publish(source: str | Path, target: str | Path) -> Path:
    """Strip ``source`` and write it beside ``target`` with the hash in its name.

    Returns:
        The path written.

    Raises:
        UnsafeCheckpointError: if loading ``source`` would run code.
        ValueError: if it holds no weights.
    """
    checkpoint = strip_checkpoint(CheckpointLoader.load_checkpoint(str(source), map_location='cpu'))
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
    args = parser.parse_args()
    print(f'written: {publish(args.source, args.target)}')


if __name__ == '__main__':
    main()
