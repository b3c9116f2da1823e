"""Lay CUB-200-2011 out for ``CUB200``.

    python tools/dataset_converters/prepare_cub200.py CUB_200_2011.tgz data/CUB_200_2011

The archive is the official one (https://data.caltech.edu/records/65de6-vp158, 1.1 GB). If it is not there it is
downloaded to that place; an interrupted download goes on where it stopped.
"""

import argparse
import os
import os.path as osp
import shutil
import tarfile
import urllib.error
import urllib.request

PAGE = 'https://data.caltech.edu/records/65de6-vp158'
ADDRESS = f'{PAGE}/files/CUB_200_2011.tgz?download=1'
NUM_CLASSES, NUM_IMAGES = 200, 11788
FOLDER = 'CUB_200_2011'


def download(path: str, address: str = ADDRESS) -> None:
    """Fetch the archive to ``path``; ``path.part`` holds what has come so far."""
    part = path + '.part'
    done = osp.getsize(part) if osp.exists(part) else 0
    request = urllib.request.Request(address, headers={'Range': f'bytes={done}-'} if done else {})
    print(f'downloading {address} to {path}')
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            # 206: the server goes on where we stopped; anything else sends the file from its beginning.
            with open(part, 'ab' if response.status == 206 else 'wb') as file:
                shutil.copyfileobj(response, file, 1 << 20)
    except (urllib.error.URLError, OSError) as error:
        raise SystemExit(
            f'cannot download {address}: {error}\nGet CUB_200_2011.tgz from {PAGE} in another way, then run this again '
            f'with its path (looked for {osp.abspath(path)})'
        ) from error
    os.replace(part, path)


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
    if osp.exists(target):
        raise SystemExit(f'{osp.abspath(target)} is there already; remove it first to unpack again')
    staging = target.rstrip('/') + '.unpacking'
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with tarfile.open(archive) as tar:
            members = [member for member in tar if member.name.startswith(f'{FOLDER}/')]
            if not members:
                raise SystemExit(f'{osp.abspath(archive)} holds no folder {FOLDER}: this is not the official archive')
            tar.extractall(staging, members, filter='data')
        verify(osp.join(staging, FOLDER), num_classes, num_images)
        os.makedirs(osp.dirname(osp.abspath(target)), exist_ok=True)
        os.replace(osp.join(staging, FOLDER), target)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SystemExit(f'cannot unpack {osp.abspath(archive)}: {error}; remove it and download it again') from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    print(f'{num_images} images of {num_classes} classes in {osp.abspath(target)}')


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description='Lay CUB-200-2011 out for mmdml')
    parser.add_argument('archive', help='CUB_200_2011.tgz; downloaded to this path if it is not there')
    parser.add_argument('target', nargs='?', default='data/CUB_200_2011', help='folder to make')
    args = parser.parse_args()
    if not osp.exists(args.archive):
        download(args.archive)
    prepare(args.archive, args.target)


if __name__ == '__main__':
    main()
