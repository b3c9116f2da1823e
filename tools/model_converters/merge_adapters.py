"""Merge the low-rank updates of a LoRA checkpoint into plain weights.

    python tools/model_converters/merge_adapters.py CONFIG CHECKPOINT OUT.pth

writes the weights of the model without adapters, which compute the same, to OUT.pth and the config that they fit to
OUT.py. Neither needs a model hub: the frozen weights are in the file.
"""

import argparse
from pathlib import Path

import torch

from mmdml.apis import get_config, get_model
from mmdml.cli.errors import run_command
from mmdml.models.backbones.adapters import AdaptedBackbone
from mmdml.utils.files import replaced_when_whole


def merge(config: str | Path, checkpoint: str | Path, target: str | Path) -> Path:
    """Write plain weights to ``target`` and their config beside it.

    Args:
        config: of the model with adapters; a path or a name of the model index.
        checkpoint: of its training.
        target: file to write, ``.pth``.

    Returns:
        The path of the config.

    Raises:
        ValueError: if the model has no adapters, or they cannot be merged; what `get_model` raises.
    """
    model = get_model(config, pretrained=checkpoint)
    if not isinstance(model.backbone, AdaptedBackbone):
        raise ValueError(f'the backbone of {config} is a {type(model.backbone).__name__}, which has no adapters')
    plain = {f'backbone.{name}': value for name, value in model.backbone.plain_weights().items()}
    plain.update({name: value for name, value in model.state_dict().items() if not name.startswith('backbone.')})
    settings = get_config(config)
    backbone = settings.model.backbone.backbone
    backbone.pop('init_cfg', None)
    settings.model.backbone = backbone
    target = Path(target)
    with replaced_when_whole(target) as beside:
        torch.save({'state_dict': {name: value.cpu().clone() for name, value in plain.items()}}, beside)
    settings.dump(target.with_suffix('.py'))
    return target.with_suffix('.py')


def main() -> None:
    """Merge one checkpoint and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of the model with adapters')
    parser.add_argument('checkpoint', help='checkpoint of its training')
    parser.add_argument('target', help='file to write, ending in .pth')
    args = parser.parse_args()
    print(f'written: {args.target}, {merge(args.config, args.checkpoint, args.target)}')


if __name__ == '__main__':
    run_command(main)
