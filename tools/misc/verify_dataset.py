"""Check that a dataset is whole: classes and images of each split against the official counts, and every image opens.

python tools/misc/verify_dataset.py CUB200 --data-root data/CUB_200_2011
python tools/misc/verify_dataset.py configs/iaa/iaa_ms_r50_cub.py --num-workers 8

A config stands for the datasets of its loaders; their official splits are checked, whatever part a loader takes.
Datasets without official counts (your own folders and lists, and reduced copies) are checked as the loaders take
them. What a scan of folders left out is named. The exit code is 1 if anything is off.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from mmdml.cli.dataset_report import as_text, check_all
from mmdml.utils.image_files import MAX_PIXELS


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the reports; the exit code says whether anything is off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', metavar='CONFIG_OR_TYPE', help='config file, or name of a dataset such as CUB200')
    parser.add_argument('--data-root', help="folder of the dataset. Default: the config's, or that of the dataset")
    parser.add_argument('--split', help='check this split only, e.g. train, test, query, small')
    parser.add_argument('--num-workers', type=int, default=4, help='images to open at a time. Default: %(default)s')
    parser.add_argument(
        '--max-pixels',
        type=int,
        default=MAX_PIXELS,
        help='an image of more pixels is broken, as LoadImageFromFile has it. Default: %(default)s',
    )
    parser.add_argument('--no-images', action='store_true', help='count only, open no image')
    parser.add_argument('--json', action='store_true', help='print JSON, with all broken images')
    args = parser.parse_args(arguments)
    if args.num_workers < 1:
        parser.error(f'--num-workers {args.num_workers} must be 1 or more')
    try:
        reports = check_all(
            args.what, args.data_root, args.split, not args.no_images, args.num_workers, args.max_pixels
        )
    except ValueError as error:
        raise SystemExit(str(error)) from error
    print(json.dumps(reports, indent=2) if args.json else '\n\n'.join(map(as_text, reports)))
    return int(not all(report['ok'] for report in reports))


if __name__ == '__main__':
    sys.exit(main())
