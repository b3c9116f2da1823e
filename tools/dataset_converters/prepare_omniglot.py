"""Build the Omniglot archive of the package from the original drawings.

    python tools/dataset_converters/prepare_omniglot.py images.zip mmdml/datasets/data/omniglot

``images.zip`` holds ``images_background/<alphabet>/<character>/<number>.png`` and ``images_evaluation/...``, the
105 x 105 originals (https://github.com/brendenlake/omniglot). The arrays of the result depend on the drawings only;
the file is the same byte for byte with the same liblzma.
"""

import argparse
import hashlib
import io
import os
import os.path as osp
import zipfile

import cv2
import numpy as np

PARTS = {'train': ('images_background/', 964), 'test': ('images_evaluation/', 659)}
DRAWINGS_PER_CLASS = 20
SIZE = 105


def read_drawing(data: bytes, name: str) -> np.ndarray:
    """``(105, 14)`` uint8: a bit for each pixel, 1 where there is ink."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None or image.shape != (SIZE, SIZE) or not np.isin(image, (0, 255)).all():
        raise ValueError(f'{name} is no {SIZE} x {SIZE} black and white drawing')
    return np.packbits(image == 0, axis=-1)


def write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    """One member of an .npz, with a fixed date so that the file does not depend on the day."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    member = zipfile.ZipInfo(f'{name}.npy', date_time=(2015, 12, 11, 0, 0, 0))
    member.compress_type = zipfile.ZIP_LZMA
    member.external_attr = 0o644 << 16
    archive.writestr(member, buffer.getvalue())


def convert(source: str, target: str) -> str:
    """Write ``target/omniglot.npz`` and return its path."""
    os.makedirs(target, exist_ok=True)
    path = osp.join(target, 'omniglot.npz')
    with zipfile.ZipFile(source) as drawings, zipfile.ZipFile(path + '.part', 'w') as archive:
        everything = sorted(name for name in drawings.namelist() if name.endswith('.png'))
        for part, (prefix, num_classes) in PARTS.items():
            names = [name for name in everything if name.startswith(prefix)]
            if len(names) != num_classes * DRAWINGS_PER_CLASS:
                raise ValueError(
                    f'{source} holds {len(names)} drawings in {prefix}, expected {num_classes * DRAWINGS_PER_CLASS}'
                )
            images = np.stack([read_drawing(drawings.read(name), name) for name in names])
            write_array(archive, f'{part}_names', np.array(names, dtype='S'))
            write_array(archive, f'{part}_images', images)
    os.replace(path + '.part', path)
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description='Build the Omniglot archive of the package')
    parser.add_argument('source', help='images.zip with the original drawings')
    parser.add_argument('target', help='folder to write omniglot.npz to')
    args = parser.parse_args()
    path = convert(args.source, args.target)
    with open(path, 'rb') as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    print(f'{path}: {osp.getsize(path):,} bytes, sha256 {digest}')


if __name__ == '__main__':
    main()
