"""Rename MobileNetV2 weights in torchvision's layout to mmpretrain's, and check that both networks give the same.

    python tools/model_converters/torchvision_mobilenet_v2_to_mmpretrain.py source.pth checkpoints/mobilenet_v2.pth

The source is torchvision's file, or a plain state dictionary with the same names; a classifier is left out.
"""

import argparse
import re
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor

import mmdml.registry  # noqa: F401  from here on a checkpoint that would run code is refused
from mmdml.cli.errors import run_command

#: Blocks by stage; torchvision numbers them through, from ``features.1``.
_REPEATS = (1, 2, 3, 4, 3, 3, 1)
_BLOCKS = [f'layer{stage}.{block}' for stage, repeats in enumerate(_REPEATS, 1) for block in range(repeats)]
_KEY = re.compile(r'features\.(\d+)\.(?:conv\.)?(\d+)\.(?:(\d)\.)?(\w+)')


def convert(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename every tensor; the values stay.

    Args:
        weights: in torchvision's layout, with or without ``classifier``.

    Raises:
        ValueError: if these are no weights by name, or one has a name that torchvision's MobileNetV2 does not have.
    """
    if not isinstance(weights, dict):
        raise ValueError(f'a file of weights by name is needed, got one of a {type(weights).__name__}')
    return {_renamed(key): value for key, value in weights.items() if not key.startswith('classifier.')}


def _renamed(key: str) -> str:
    found = _KEY.fullmatch(key)
    if not found or int(found[1]) > len(_BLOCKS) + 1:
        raise ValueError(f"'{key}' is no weight of torchvision's MobileNetV2")
    number, first, second, tensor = int(found[1]), int(found[2]), found[3], found[4]
    if number in (0, len(_BLOCKS) + 1):  # the convolutions before and after the blocks
        return f'conv{1 if number == 0 else 2}.{_part(first)}.{tensor}'
    # A block nests its convolutions with activation (i.0, i.1) and lists the last one flat behind them (n, n + 1).
    last = 1 if number == 1 else 2
    unit, part = (last, first - last) if second is None else (first, int(second))
    return f'{_BLOCKS[number - 1]}.conv.{unit}.{_part(part)}.{tensor}'


def _part(index: int) -> str:
    return 'bn' if index else 'conv'


@torch.no_grad()
def largest_difference(weights: dict[str, Tensor], converted: dict[str, Tensor], size: int = 96) -> float:
    """Largest difference between the last maps of torchvision's and mmpretrain's networks on a random image.

    Raises:
        RuntimeError: if either network misses a weight, or gets one it does not know.
    """
    from mmpretrain.models import MobileNetV2
    from torchvision.models import mobilenet_v2

    reference, network = mobilenet_v2(weights=None).features.eval(), MobileNetV2()
    network.eval()  # of mmpretrain's, it returns nothing
    features = {key.removeprefix('features.'): value for key, value in weights.items() if key.startswith('features.')}
    reference.load_state_dict(features)
    network.load_state_dict(converted)
    picture = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    return (reference(picture) - network(picture)[-1]).abs().max().item()


def main() -> None:
    """Convert, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help="file in torchvision's layout")
    parser.add_argument('target', help='file to write')
    args = parser.parse_args()
    weights = CheckpointLoader.load_checkpoint(args.source, map_location='cpu')
    converted = convert(weights)
    try:
        difference = largest_difference(weights, converted)
    except RuntimeError as error:
        raise ValueError(f"{args.source} has not the weights of torchvision's MobileNetV2: {error}"[:500]) from error
    if difference > 1e-5:
        raise SystemExit(f"not written: the maps differ from torchvision's by {difference:.1e}")
    Path(args.target).parent.mkdir(parents=True, exist_ok=True)
    torch.save({'state_dict': converted}, args.target)
    print(f"written: {args.target} (largest difference from torchvision's maps: {difference:.1e})")


if __name__ == '__main__':
    run_command(main)
