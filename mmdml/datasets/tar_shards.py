"""Images inside tar files, each read at its place."""

import os.path as osp
import zlib

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.image_list import number_classes
from mmdml.datasets.samples import Samples
from mmdml.registry import DATASETS
from mmdml.utils.names import printable

#: Columns of a table of shards, and the types of their values.
TABLE_COLUMNS = dict(shard='str', path='str', label='str', offset='int64', size='int64', crc32='int64')
SHARD_SIZES = 'mmdml_shard_sizes'


@DATASETS.register_module()
class TarShards(RetrievalDataset):
    """Images in plain tar files, as WebDataset and img2dataset write them, without unpacking.

    A table says where each image lies, so that any image is read by its number: P x K batches, resuming, ranks and
    validation classes are those of any other dataset. ``tools/dataset_converters/prepare_shards.py`` writes the table.
    The pipeline is that of image files: ``LoadImageFromFile`` takes the bytes from the tar. There is one table a split,
    as for :class:`ImageList`.

    Args:
        ann_file: the table, ``.parquet``, relative to ``data_root`` or absolute.
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`; ``data_prefix=dict(shards=folder)`` is where the
            tar files are, below ``data_root``. Default: ``data_root`` itself.

    Raises:
        FileNotFoundError: the table or a shard is not there.
        ValueError: the table lacks columns, a name in it leads outside, or a shard has another size than it had when
            the table was written.
        UnreadableImageError: the bytes at the place of an image are not those that the table was written for.

    Config::

        dataset = dict(type='TarShards', data_root='shards', ann_file='train.parquet', pipeline=[...])
    """

    opens_files = False

    def __init__(self, ann_file: str, **kwargs) -> None:
        prefix = kwargs.pop('data_prefix', None) or dict(shards='')
        super().__init__(ann_file=ann_file, data_prefix=prefix, **kwargs)

    def load_samples(self) -> Samples:
        """Read the table and check the shards."""
        self._table, sizes = read_shard_table(self.ann_file)
        folder = self.data_prefix.get('shards') or self.data_root
        for shard, size in sizes.items():
            _check_shard(osp.join(folder, shard), size, self.ann_file)
        self._folder = folder
        try:
            classes, labels = number_classes(self._table['label'])
        except ValueError as error:
            raise ValueError(f'{osp.abspath(self.ann_file)}: {error}') from None
        return Samples(self._names(), labels, classes)

    def load_data_list(self) -> list[dict]:
        """Return data infos with the place of each image."""
        infos = super().load_data_list()
        row_of = {name: row for row, name in enumerate(self._names())}
        table = self._table
        for info in infos:
            row = row_of[info['img_path']]
            info['in_tar'] = dict(
                shard=osp.join(self._folder, table['shard'][row]),
                **{name: int(table[name][row]) for name in ('offset', 'size', 'crc32')},
            )
        del self._table
        return infos

    def open_image(self, data_info: dict) -> dict:
        """Add the bytes of the image.

        Raises:
            ValueError: they are not those that the table was written for.
        """
        place = data_info.pop('in_tar')
        # Opened anew each time: no file is shared with forked workers, and no number of shards is too large.
        with open(place['shard'], 'rb') as file:
            file.seek(place['offset'])
            data = file.read(place['size'])
        if len(data) != place['size'] or zlib.crc32(data) != place['crc32']:
            raise ValueError(
                f'the {place["size"]:,} bytes at {place["offset"]:,} of {place["shard"]} are not those that the table '
                f'was written for; write {osp.abspath(self.ann_file)} anew'
            )
        data_info['img_bytes'] = data
        return data_info

    def _names(self) -> list[str]:
        return [f'{shard}/{path}' for shard, path in zip(self._table['shard'], self._table['path'], strict=True)]


def read_shard_table(path: str) -> tuple[dict[str, list], dict[str, int]]:
    """Read a table of shards.

    Returns:
        The columns by name, and the size in bytes of each shard.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: pyarrow is not installed.
        ValueError: it is no such table, or names something outside the folder of the shards.
    """
    where = osp.abspath(path)
    if not osp.isfile(path):
        raise FileNotFoundError(
            f'TarShards finds no table {where}; write one: python tools/dataset_converters/prepare_shards.py SHARDS '
            f'{path}'
        )
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f"{where}: reading .parquet files needs pyarrow: pip install 'mmdml[parquet]'") from error
    try:
        table = pyarrow.parquet.read_table(path)
        metadata = table.schema.metadata or {}
        sizes = dict(line.rsplit('\t', 1) for line in metadata[SHARD_SIZES.encode()].decode().splitlines())
        columns = {name: table.column(name).to_pylist() for name in TABLE_COLUMNS}
        sizes = {shard: int(size) for shard, size in sizes.items()}
    except (pyarrow.ArrowException, OSError, KeyError, ValueError) as error:
        cause = ' '.join(str(error).split())[:200]
        raise ValueError(f'{where} is no table that prepare_shards.py wrote ({cause})') from error
    for shard in {*sizes, *columns['shard']}:
        parts = shard.replace('\\', '/').split('/')
        if osp.isabs(shard) or '..' in parts or shard not in sizes:
            raise ValueError(f'{where} names the shard {printable(shard)!r}, which is none below its folder')
    return columns, sizes


def _check_shard(path: str, size: int, table: str) -> None:
    if not osp.isfile(path):
        raise FileNotFoundError(f'{osp.abspath(table)} names the shard {osp.abspath(path)}, which is not there')
    found = osp.getsize(path)
    if found != size:
        raise ValueError(
            f'{osp.abspath(path)} has {found:,} bytes, but {size:,} when {osp.abspath(table)} was written: it was '
            'changed or is not whole; get it again, or write the table anew'
        )
