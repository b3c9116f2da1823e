"""The Omniglot archive of the package, built from the original drawings."""

import io
import os
import os.path as osp
import shutil
import zipfile

import cv2
import numpy as np

#: Folder and classes of each part.
PARTS = {'train': ('images_background', 964), 'test': ('images_evaluation', 659)}
DRAWINGS_PER_CLASS = 20
SIZE = 105


def pack_drawings(tree: str) -> None:
    """Replace the folders of original drawings by ``omniglot.npz``, which :class:`~mmdml.datasets.Omniglot` reads.

    The arrays depend on the drawings only; the file is the same byte for byte with the same liblzma.

    Args:
        tree: folder with ``images_background/<alphabet>/<character>/<number>.png`` and ``images_evaluation/...``, the
            105 x 105 originals.

    Raises:
        ValueError: another number of drawings, or one of another size or with gray pixels.
    """
    path = osp.join(tree, 'omniglot.npz')
    with zipfile.ZipFile(path, 'w') as archive:
        for part, (folder, num_classes) in PARTS.items():
            names = sorted(
                osp.relpath(osp.join(at, name), tree).replace(os.sep, '/')
                for at, _, files in os.walk(osp.join(tree, folder))
                for name in files
                if name.endswith('.png')
            )
            if len(names) != num_classes * DRAWINGS_PER_CLASS:
                raise ValueError(
                    f'there are {len(names)} drawings in {folder}/, expected {num_classes * DRAWINGS_PER_CLASS}'
                )
            images = np.stack([_read_drawing(osp.join(tree, name), name) for name in names])
            _write_array(archive, f'{part}_names', np.array(names, dtype='S'))
            _write_array(archive, f'{part}_images', images)
    for folder, _ in PARTS.values():
        shutil.rmtree(osp.join(tree, folder))


def _read_drawing(path: str, name: str) -> np.ndarray:
    """``(105, 14)`` uint8: a bit for each pixel, 1 where there is ink."""
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None or image.shape != (SIZE, SIZE) or not np.isin(image, (0, 255)).all():
        raise ValueError(f'{name} is no {SIZE} x {SIZE} black and white drawing')
    return np.packbits(image == 0, axis=-1)


def _write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    """Write one member of an .npz, with a fixed date so that the file does not depend on the day."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    member = zipfile.ZipInfo(f'{name}.npy', date_time=(2015, 12, 11, 0, 0, 0))
    member.compress_type = zipfile.ZIP_LZMA
    member.external_attr = 0o644 << 16
    archive.writestr(member, buffer.getvalue())
