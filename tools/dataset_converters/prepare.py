"""Lay a dataset out for its class, from its official files.

python tools/dataset_converters/prepare.py CUB200 CUB_200_2011.tgz data/CUB_200_2011
python tools/dataset_converters/prepare.py OxfordPets downloads data/oxford_pets

SOURCE is a file, or a folder with files; what is missing is downloaded to there where an address is known, and an
interrupted download continues where it stopped. TARGET appears when it is complete.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from mmdml.cli.prepare import prepare_dataset, recipes_as_text
from mmdml.datasets.preparation.archives import MAX_UNPACKED_BYTES, ArchiveError


def _end(number: int, frame: FrameType | None) -> None:
    # An exception, unlike the default, removes the folder that is being unpacked to.
    sys.exit(128 + number)


def main(arguments: Sequence[str] | None = None) -> None:
    """Lay out the dataset that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=recipes_as_text(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('recipe', metavar='RECIPE', help='name of a recipe, see below')
    parser.add_argument('sources', metavar='SOURCE', nargs='+', help='official files, or folders that hold them')
    parser.add_argument('target', metavar='TARGET', help='folder to make')
    parser.add_argument(
        '--skip-checks',
        action='store_true',
        help='take a repacked or reduced copy, whose checksums and counts are not the official ones',
    )
    parser.add_argument(
        '--max-gigabytes',
        type=float,
        default=MAX_UNPACKED_BYTES / 1e9,
        help='refuse an archive that unpacks to more. Default: %(default).0f',
    )
    args = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    try:
        done, check = prepare_dataset(args.recipe, args.sources, args.target, args.skip_checks, args.max_gigabytes)
    except (ArchiveError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    print(done)
    print(f'open every image: python tools/misc/verify_dataset.py {check}')


if __name__ == '__main__':
    main()
