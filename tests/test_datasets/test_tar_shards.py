"""Images inside tar files: the table, what reads by it, and tars that are cut, changed or hostile."""

import gzip
import io
import json
import runpy
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from tiny import REPO

from mmdml.cli.main import main
from mmdml.datasets import ImageFolder, PKSampler, TarShards
from mmdml.datasets.preparation.archives import ArchiveError
from mmdml.datasets.preparation.shard_table import write_shard_table

LOAD = [dict(type='LoadImageFromFile', color_type='grayscale')]


def add(archive, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def png(value=0):
    return cv2.imencode('.png', np.full((8, 8), value, np.uint8))[1].tobytes()


@pytest.fixture
def shards(pictures, tmp_path):
    """The folder of pictures in two tars, images of each class in both."""
    folder = tmp_path / 'shards'
    folder.mkdir()
    files = sorted(Path(pictures).rglob('*.png'))
    for number in range(2):
        with tarfile.open(folder / f'{number:05}.tar', 'w') as archive:
            for path in files[number::2]:
                archive.add(path, f'{path.parent.name}/{path.name}')
    return folder


@pytest.fixture
def table(shards, tmp_path):
    write_shard_table(str(shards), str(tmp_path / 'train.parquet'))
    return tmp_path / 'train.parquet'


def dataset(shards, table, **options):
    return TarShards(ann_file=str(table), data_root=str(shards), pipeline=LOAD, **options)


def test_the_images_are_those_of_the_folder(shards, table, pictures):
    tars, files = dataset(shards, table), ImageFolder(data_root=pictures, pipeline=LOAD)
    assert len(tars) == len(files) == 36 and tars.metainfo['classes'] == files.metainfo['classes']
    expected = {Path(info['img_path']).parts[-2:]: info for info in (files[i] for i in range(len(files)))}
    for i in range(len(tars)):
        found = tars[i]
        info = expected[Path(found['img_path']).parts[-2:]]
        assert np.array_equal(found['img'], info['img']) and found['gt_label'] == info['gt_label']
        assert found['sample_idx'] == i and 'img_bytes' not in found


def test_batches_of_classes_validation_classes_and_subsets_work(shards, table):
    whole = dataset(shards, table)
    order = list(PKSampler(whole, batch_size=6, images_per_class=2, seed=0))
    labels = whole.labels[[int(draw) for draw in order[:6]]]
    assert sorted(np.unique(labels, return_counts=True)[1]) == [2, 2, 2]
    train, val = (dataset(shards, table, split=split, val_classes=2) for split in ('train', 'val'))
    assert len(train) + len(val) == 36 and val.metainfo['classes'] == ['class_6', 'class_7']
    assert np.array_equal(val.get_subset([3])[0]['img'], val[3]['img'])


@pytest.mark.parametrize('label', ['cls', 'json:brand'])
def test_labels_beside_the_images_as_webdataset_has_them(label, tmp_path):
    with tarfile.open(tmp_path / 'a.tar', 'w') as archive:
        for number in range(4):
            add(archive, f'x/{number:03}.rgb.png', png(number))
            # Some editors begin a text with a byte order mark.
            add(archive, f'x/{number:03}.cls', str(10 + number % 2).encode('utf-8-sig' if number == 3 else 'utf-8'))
            add(archive, f'x/{number:03}.json', json.dumps(dict(brand=10 + number % 2)).encode())
    write_shard_table(str(tmp_path), str(tmp_path / 't.parquet'), label)
    found = dataset(tmp_path, tmp_path / 't.parquet')
    assert found.metainfo['classes'] == ['10', '11'] and found.labels.tolist() == [0, 1, 0, 1]
    assert [found[i]['img'].max() for i in range(4)] == [0, 1, 2, 3]


def test_the_command_says_what_it_wrote(shards, tmp_path, capsys):
    main = runpy.run_path(f'{REPO}/tools/dataset_converters/prepare_shards.py')['main']
    main([str(shards), str(tmp_path / 'out/t.parquet')])
    assert '36 images of 8 classes in 2 shards' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='holds no .tar file'):
        main([str(tmp_path / 'out'), str(tmp_path / 't.parquet')])


def made(tmp_path, *members):
    with tarfile.open(tmp_path / 'a.tar', 'w') as archive:
        for name, data in members:
            add(archive, name, data)
    return tmp_path / 'a.tar'


@pytest.mark.parametrize(
    ('members', 'message'),
    [
        ([('../a/b.png', png())], r"holds the entry '\.\./a/b\.png', which points outside"),
        ([('/etc/b.png', png())], 'points outside'),
        ([('a/b.png', png()), ('a/b.png', png(1))], "holds 'a/b.png' twice"),
        ([('b.png', png())], "'b.png' is in no folder"),
        ([('a/readme.txt', b'')], 'hold no image'),
        ([('a/._b.png', png())], 'hold no image'),
        ([('a/b.png', png()), ('a/c.png', b'')], "the image 'a/c.png' is empty"),
    ],
)
def test_a_hostile_or_useless_tar_is_refused(members, message, tmp_path):
    made(tmp_path, *members)
    with pytest.raises(ArchiveError, match=message):
        write_shard_table(str(tmp_path), str(tmp_path / 't.parquet'))
    assert not (tmp_path / 't.parquet').exists()


@pytest.mark.parametrize('left', [700, 1200, 2048])
def test_a_cut_tar_is_refused(left, tmp_path):
    path = made(tmp_path, ('a/1.png', png()), ('a/2.png', png()))
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ArchiveError, match='is cut or damaged|unexpected end of data'):
        write_shard_table(str(tmp_path), str(tmp_path / 't.parquet'))


def test_a_compressed_tar_is_named_and_a_label_that_is_missing_too(tmp_path):
    path = made(tmp_path, ('a/1.png', png()))
    with pytest.raises(ArchiveError, match="'a/1.png' without 'a/1.cls'"):
        write_shard_table(str(tmp_path), str(tmp_path / 't.parquet'), 'cls')
    with pytest.raises(ValueError, match="label must be 'folder', 'cls' or 'json:FIELD', got 'class'"):
        write_shard_table(str(tmp_path), str(tmp_path / 't.parquet'), 'class')
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ArchiveError, match='is compressed: unpack it'):
        write_shard_table(str(tmp_path), str(tmp_path / 't.parquet'))


def test_a_shard_that_changed_is_found_at_the_start_or_where_it_is_read(shards, table):
    found = dataset(shards, table)
    path = shards / '00000.tar'
    data = bytearray(path.read_bytes())
    at = data.index(b'IDAT') + 6
    data[at] ^= 1
    path.write_bytes(data)
    bad = 0
    for i in range(len(found)):
        try:
            found[i]
        except RuntimeError as error:
            assert 'are not those that the table was written for' in str(error) and '00000.tar' in str(error)
            bad += 1
    assert bad == 1
    path.write_bytes(data[:-512])
    with pytest.raises(ValueError, match='has .* bytes, but .* when .*train.parquet was written'):
        dataset(shards, table)
    path.unlink()
    with pytest.raises(FileNotFoundError, match='names the shard .*00000.tar, which is not there'):
        dataset(shards, table)


def test_a_table_that_leads_outside_or_is_none_is_refused(shards, table, tmp_path):
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(table)
    outside = rows.set_column(0, 'shard', pyarrow.array(['../../x.tar'] * len(rows)))
    pyarrow.parquet.write_table(outside, tmp_path / 'bad.parquet')
    with pytest.raises(ValueError, match=r"names the shard '\.\./\.\./x\.tar'"):
        dataset(shards, tmp_path / 'bad.parquet')
    pyarrow.parquet.write_table(rows.drop_columns(['crc32']), tmp_path / 'bad.parquet')
    with pytest.raises(ValueError, match='is no table that prepare_shards.py wrote'):
        dataset(shards, tmp_path / 'bad.parquet')
    with pytest.raises(FileNotFoundError, match='prepare_shards.py SHARDS'):
        dataset(shards, tmp_path / 'none.parquet')


@pytest.mark.parametrize(
    ('label', 'content', 'message'),
    [
        ('cls', b' ', "the .cls of '1.png' holds no label"),
        ('cls', bytes([255]), "the .cls of '1.png' holds no label"),
        ('json:brand', b'{"brand": null}', "the .json of '1.png' has no label 'brand'"),
        ('json:brand', b'{"brand": [1]}', "the .json of '1.png' has no label 'brand'"),
        ('json:brand', b'[' * 100_000, "the .json of '1.png' has no label 'brand'"),
    ],
)
def test_an_empty_or_odd_label_is_refused(label, content, message, tmp_path):
    made(tmp_path, ('1.png', png()), (f'1.{label.partition(":")[0]}', content))
    with pytest.raises(ArchiveError, match=message):
        write_shard_table(str(tmp_path), str(tmp_path / 't.parquet'), label)


def test_images_that_are_links_names_in_no_utf8_and_a_second_archive_are_refused(tmp_path):
    path = made(tmp_path, ('a/1.png', png()))
    whole = path.read_bytes()
    path.write_bytes(whole + whole.replace(b'a/1.png', b'a/2.png'))
    with pytest.raises(ArchiveError, match='or holds a second archive there'):
        write_shard_table(str(tmp_path), str(tmp_path / 't.parquet'))
    made(tmp_path, ('a\udcff/1.png', png()))
    with pytest.raises(ArchiveError, match='is not in UTF-8'):
        write_shard_table(str(tmp_path), str(tmp_path / 't.parquet'))
    made(tmp_path, ('a/1.png', png()))
    path.rename(tmp_path / 'a\nb.tar')
    with pytest.raises(ArchiveError, match='has a line break: rename it'):
        write_shard_table(str(tmp_path), str(tmp_path / 't.parquet'))
    (tmp_path / 'a\nb.tar').unlink()
    with tarfile.open(path, 'w') as archive:
        add(archive, 'a/1.png', png())
        link = tarfile.TarInfo('b/2.png')
        link.type, link.linkname = tarfile.LNKTYPE, 'a/1.png'
        archive.addfile(link)
    with pytest.raises(ArchiveError, match="'b/2.png' is a link or no file"):
        write_shard_table(str(tmp_path), str(tmp_path / 't.parquet'))


def test_what_macos_writes_beside_images_and_in_hidden_folders_is_skipped_and_counted(tmp_path, capsys):
    made(tmp_path, ('./a/._b.png', b'AppleDouble'), ('./a/b.png', png()), ('.Trash/a/c.png', png(1)))
    main = runpy.run_path(f'{REPO}/tools/dataset_converters/prepare_shards.py')['main']
    main([str(tmp_path), str(tmp_path / 't.parquet')])
    out = capsys.readouterr().out
    assert '1 images of 1 classes' in out and 'skipped: 2 names that begin with a dot, e.g. a.tar/./a/._b.png' in out
    data = dataset(tmp_path, tmp_path / 't.parquet')
    assert len(data) == 1 and data[0]['img_path'].endswith('a/b.png')


def test_every_image_is_verified_where_it_lies(shards, table, tmp_path):
    config = tmp_path / 'mine.py'
    dataset = dict(type='TarShards', data_root=str(shards), ann_file=str(table))
    config.write_text(f'train_dataloader = dict(dataset={dataset!r})\n')

    def verify():
        done = CliRunner().invoke(main, ['verify', str(config)])
        return done.exit_code, done.stdout

    code, text = verify()
    assert code == 0 and '36 images open, 0 do not' in text
    info = TarShards(**{key: dataset[key] for key in ('data_root', 'ann_file')}).get_data_info(0)
    with open(info['in_tar']['shard'], 'r+b') as file:
        file.seek(info['in_tar']['offset'] + 20)
        file.write(b'changed')
    code, text = verify()
    assert code == 1 and '35 images open, 1 do not' in text and f'{info["img_path"]} cannot be read: the ' in text
