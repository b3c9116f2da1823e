"""Lay CUB-200-2011 out for ``CUB200``.

    python tools/dataset_converters/prepare_cub200.py CUB_200_2011.tgz data/CUB_200_2011

The archive is the official one (https://data.caltech.edu/records/65de6-vp158, 1.1 GB). If it is not there it is
downloaded to that place; an interrupted download goes on where it stopped.
"""

import argparse
import os.path as osp

from mmdml.utils import archives

PAGE = 'https://data.caltech.edu/records/65de6-vp158'
ADDRESS = f'{PAGE}/files/CUB_200_2011.tgz?download=1'
CHECKSUM = 'md5:97eceeb196236b17998738112f37df78'
NUM_CLASSES, NUM_IMAGES = 200, 11788
ARCHIVE = archives.OfficialFile('CUB_200_2011.tgz', folder='CUB_200_2011', address=ADDRESS, checksum=CHECKSUM)


def download(path: str, address: str = ADDRESS) -> None:
    """Fetch the archive to ``path``; ``path.part`` holds what has come so far."""
    instead = (
        f'Get CUB_200_2011.tgz from {PAGE} in another way, then run this again with its path '
        f'(looked for {osp.abspath(path)})'
    )
    try:
        archives.download(address, path, instead)
    except archives.ArchiveError as error:
        raise SystemExit(str(error)) from error


def verify(root: str, num_classes: int = NUM_CLASSES, num_images: int = NUM_IMAGES) -> None:
    """Check that the tree is whole: the lists have the official lengths and every listed image is there."""
    lines = {}
    for name in ('images.txt', 'image_class_labels.txt', 'classes.txt'):
        path = osp.join(root, name)
        if not osp.isfile(path):
            raise SystemExit(f'{osp.abspath(path)} is missing: this is not the official archive')
        with open(path, encoding='utf-8') as file:
            lines[name] = [line.split(maxsplit=1) for line in file if line.strip()]
    wanted = {'images.txt': num_images, 'image_class_labels.txt': num_images, 'classes.txt': num_classes}
    for name, number in wanted.items():
        if len(lines[name]) != number:
            raise SystemExit(f'{osp.abspath(root)}/{name} has {len(lines[name])} lines, expected {number}')
    missing = [path for _, path in lines['images.txt'] if not osp.isfile(osp.join(root, 'images', path.strip()))]
    if missing:
        raise SystemExit(f'{len(missing)} images are missing in {osp.abspath(root)}/images, e.g. {missing[0].strip()}')


def prepare(archive: str, target: str, num_classes: int = NUM_CLASSES, num_images: int = NUM_IMAGES) -> None:
    """Unpack, verify, and only then move to ``target``."""
    try:
        archives.lay_out([(ARCHIVE, archive)], target, lambda tree: verify(tree, num_classes, num_images))
    except archives.ArchiveError as error:
        raise SystemExit(str(error)) from error
    print(f'{num_images} images of {num_classes} classes in {osp.abspath(target)}')


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description='Lay CUB-200-2011 out for mmdml')
    parser.add_argument('archive', help='CUB_200_2011.tgz; downloaded to this path if it is not there')
    parser.add_argument('target', nargs='?', default='data/CUB_200_2011', help='folder to make')
    parser.add_argument('--skip-checksum', action='store_true', help='take an archive that was repacked')
    args = parser.parse_args()
    try:
        archives.require_absent(args.target)
        if not osp.exists(args.archive):
            download(args.archive)
        if not args.skip_checksum:
            archives.check_checksum(args.archive, CHECKSUM)
    except archives.ArchiveError as error:
        raise SystemExit(str(error)) from error
    prepare(args.archive, args.target)


if __name__ == '__main__':
    main()
