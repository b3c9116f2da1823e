"""Write where the images of tar files lie, for the dataset TarShards.

python tools/dataset_converters/prepare_shards.py SHARDS train.parquet                    # CLASS/IMAGE.jpg in the tars
python tools/dataset_converters/prepare_shards.py SHARDS train.parquet --label cls        # IMAGE.jpg and IMAGE.cls
python tools/dataset_converters/prepare_shards.py SHARDS train.parquet --label json:brand # IMAGE.jpg and IMAGE.json

SHARDS is a folder with plain .tar files, such as WebDataset and img2dataset write. Each is read to its end once; a cut
or damaged one, and one whose names lead outside, is refused. The table has a checksum of every image, which is checked
whenever the image is read.
"""

import argparse
from collections.abc import Sequence

from mmdml.datasets.preparation.archives import ArchiveError
from mmdml.datasets.preparation.shard_table import write_shard_table
from mmdml.utils.names import printable


def main(arguments: Sequence[str] | None = None) -> None:
    """Write one table and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('shards', metavar='SHARDS', help='folder with .tar files')
    parser.add_argument('target', metavar='TABLE', help='file to write, ending in .parquet')
    parser.add_argument('--label', default='folder', help='folder, cls or json:FIELD. Default: %(default)s')
    args = parser.parse_args(arguments)
    try:
        rows, skipped = write_shard_table(args.shards, args.target, args.label)
    except (ArchiveError, OSError, ValueError, ImportError) as error:
        raise SystemExit(str(error)) from error
    shards, classes = len({row[0] for row in rows}), len({row[2] for row in rows})
    print(f'written: {args.target}: {len(rows):,} images of {classes:,} classes in {shards:,} shards')
    if skipped:
        print(f'skipped: {len(skipped):,} names that begin with a dot, e.g. {printable(skipped[0])}')


if __name__ == '__main__':
    main()
