r"""Join a model that was trained on features with the backbone that made them, into one that takes pictures.

    python tools/model_converters/join_backbone.py configs/_base_/models/mobilenet-v2.py \
        work_dirs/mine/ms_residual_features.py:work_dirs/mine/epoch_20.pth features/mine/train.npz joined/mine.pth \
        --size 160

writes the weights of both to ``joined/mine.pth`` and their config to ``joined/mine.py``, which every command takes:
``mmdml publish joined/mine.py:joined/mine.pth``. Config and size are those of ``extract_features.py``, which is checked
by the hash in the file of features.
"""

import argparse
from collections.abc import Sequence

import mmdml  # noqa: F401  (first: it makes torchvision importable beside a CPU-only torch)
from mmdml.apis.frozen_features import join_backbone
from mmdml.cli.errors import run_command


def main(arguments: Sequence[str] | None = None) -> None:
    """Join what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config with the model that made the features')
    parser.add_argument('model', help='CONFIG:CHECKPOINT of the model that was trained on them')
    parser.add_argument('features', help='file that it was trained on')
    parser.add_argument('target', help='file to write, ending in .pth')
    parser.add_argument('--size', type=int, required=True, help='pixels of both sides that images were resized to')
    args = parser.parse_args(arguments)
    print(f'written: {args.target}, {join_backbone(**vars(args))}')


if __name__ == '__main__':
    run_command(main)
