"""Print a config as the tools see it, with its bases and overrides merged and its keys checked.

python tools/misc/print_config.py configs/iaa/iaa_ms_r50_cub.py --cfg-options model.head.loss.beta=50
"""

import argparse

from mmdml.cli.config_options import ConfigOptions
from mmdml.cli.errors import run_command
from mmdml.cli.launch import read_config


def main() -> None:
    """Read, merge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, default={}, help='overrides: dotted.key=value'
    )
    parser.add_argument('--debug', action='store_true', help='show the traceback of every error')
    args = parser.parse_args()
    print(read_config(args.config, args.cfg_options).pretty_text)


if __name__ == '__main__':
    run_command(main)
