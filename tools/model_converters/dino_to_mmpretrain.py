"""Rename the weights of DINO's vision transformers to mmpretrain's names.

    python tools/model_converters/dino_to_mmpretrain.py dino_deitsmall16_pretrain.pth checkpoints/vit_small_dino.pth

The source is a backbone as DINO publishes it (``dino_deitsmall16_pretrain.pth`` and the like): a plain state dictionary
with timm's names, which any plain ViT of timm shares.
"""

import argparse
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor

import mmdml.registry  # noqa: F401  from here on a checkpoint that would run code is refused
from mmdml.cli.errors import run_command

#: Parts of names, each with a dot on both sides.
_RENAMES = {
    '.patch_embed.proj.': '.patch_embed.projection.',
    '.blocks.': '.layers.',
    '.norm1.': '.ln1.',
    '.norm2.': '.ln2.',
    '.norm.': '.ln1.',  # the last one, behind the blocks
    '.mlp.fc1.': '.ffn.layers.0.0.',
    '.mlp.fc2.': '.ffn.layers.1.',
}


def convert(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename every tensor; the values stay, a classifier (``head``) is left out.

    Raises:
        ValueError: if these are no weights of a ViT with class token, or mmpretrain's ViT of that shape would miss one
            or does not know one.
    """
    if not isinstance(weights, dict):
        raise ValueError(f'a file of weights by name is needed, got one of a {type(weights).__name__}')
    if not {'cls_token', 'pos_embed', 'patch_embed.proj.weight', 'blocks.0.mlp.fc1.weight'} <= set(weights):
        raise ValueError(f"no ViT in timm's or DINO's layout; the file starts with {sorted(weights)[:5]}")
    converted = {_renamed(key): value for key, value in weights.items() if not key.startswith('head.')}
    try:
        _network_for(weights).load_state_dict(converted)
    except RuntimeError as error:
        raise ValueError(f"these weights are not those of mmpretrain's VisionTransformer: {error}") from error
    return converted


def _renamed(key: str) -> str:
    key = f'.{key}'
    for old, new in _RENAMES.items():
        key = key.replace(old, new)
    return key.removeprefix('.')


def _network_for(weights: dict[str, Tensor]) -> torch.nn.Module:
    """Network of mmpretrain of the same shape; no shape depends on the number of heads."""
    from mmpretrain.models import VisionTransformer

    inner, width = weights['blocks.0.mlp.fc1.weight'].shape
    depth = len({key.split('.')[1] for key in weights if key.startswith('blocks.')})
    patch_size = weights['patch_embed.proj.weight'].shape[-1]
    side = round((weights['pos_embed'].shape[1] - 1) ** 0.5)
    arch = dict(embed_dims=width, num_layers=depth, num_heads=1, feedforward_channels=inner)
    return VisionTransformer(arch, img_size=side * patch_size, patch_size=patch_size)


def main() -> None:
    """Convert and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='file of DINO')
    parser.add_argument('target', help='file to write')
    args = parser.parse_args()
    converted = convert(CheckpointLoader.load_checkpoint(args.source, map_location='cpu'))
    Path(args.target).parent.mkdir(parents=True, exist_ok=True)
    torch.save({'state_dict': converted}, args.target)
    print(f'written: {args.target} ({len(converted)} tensors)')


if __name__ == '__main__':
    run_command(main)
