"""Contact sheets of a dataset as the model will see it: one row per class.

python tools/visualization/browse_dataset.py CONFIG --output-dir sheets --mode transformed
"""

import argparse

from mmdml.cli.browse import browse_config
from mmdml.cli.config_options import ConfigOptions
from mmdml.cli.errors import run_command
from mmdml.visualization.contact_sheets import MODES


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Write contact sheets of a dataset')
    parser.add_argument('config', help='config file')
    parser.add_argument('--output-dir', '-o', required=True, help='folder for the PNG files')
    parser.add_argument('--phase', default='train', choices=('train', 'val', 'test'), help='which dataloader')
    parser.add_argument('--number', '-n', type=int, default=32, help='how many images')
    parser.add_argument('--images-per-class', '-k', type=int, default=4, help='images in a row')
    parser.add_argument('--mode', default='transformed', choices=MODES)
    parser.add_argument('--epoch', type=int, default=0, help='epoch of the augmentation')
    parser.add_argument('--seed', type=int, default=0, help='seed of the choice and of the augmentation')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, help='override settings, key=value')
    parser.add_argument('--debug', action='store_true', help='show the traceback of every error')
    return parser.parse_args()


def main() -> None:
    """Write the sheets and print their paths."""
    args = parse_args()
    options = dict(
        number=args.number, per_class=args.images_per_class, mode=args.mode, epoch=args.epoch, seed=args.seed
    )
    for path in browse_config(args.config, args.output_dir, args.phase, args.cfg_options, **options):
        print(path)


if __name__ == '__main__':
    run_command(main)
