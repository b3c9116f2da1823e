"""Print a config as the tools see it, with its bases and overrides merged and its keys checked.

python tools/misc/print_config.py configs/iaa/iaa_ms_r50_cub.py --cfg-options model.head.loss.beta=50
"""

import argparse

from mmengine.config import Config, DictAction

from mmdml.cli.launch import check_keys


def main() -> None:
    """Read, merge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={}, help='overrides: dotted.key=value')
    args = parser.parse_args()
    config = Config.fromfile(args.config)
    check_keys(config, args.cfg_options)
    config.merge_from_dict(args.cfg_options)
    print(config.pretty_text)


if __name__ == '__main__':
    main()
