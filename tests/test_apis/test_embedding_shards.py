"""Shards of embeddings: resumed, shared among ranks, refused where they are of something else."""

import errno
import json
import resource
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from mmdml.apis import ImageEmbeddingInferencer, get_model
from mmdml.apis.embedding_shards import write_shards
from mmdml.cli.main import main
from mmdml.functional.embedding_files import read_embeddings

SIZES = dict(backbone=dict(channels=8), neck=dict(in_channels=8, embed_dim=6))
PIPELINE = [dict(type='LoadImageFromFile', color_type='grayscale'), dict(type='mmpretrain.PackInputs')]


def inferencer():
    model = get_model('ms_conv4_omniglot', False, **SIZES)
    return ImageEmbeddingInferencer(model, pipeline=PIPELINE, device='cpu', batch_size=5, progress=False)


@pytest.fixture(scope='module')
def embed():
    return inferencer()


def read(out):
    """Embeddings by relative path, and the paths of unreadable pictures."""
    rows, unreadable = {}, []
    for table in sorted(out.glob('*.jsonl')):
        vectors = np.load(table.with_suffix('.npy'))
        for line in map(json.loads, table.read_text().splitlines()):
            if 'error' in line:
                unreadable.append(line['path'])
            else:
                rows[line['path']] = vectors[line['row']]
    return rows, unreadable


def contents(out):
    return {file.name: file.read_bytes() for file in out.iterdir()}


def test_shards_hold_every_picture_once_and_unreadable_ones_by_name(embed, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / 'photos')
    (tmp_path / 'photos/class_0/x\udce9\n.png').write_bytes(b'no picture')
    done = write_shards(embed, tmp_path / 'photos', tmp_path / 'out', shard_size=10)
    assert (done.written, done.skipped, done.pictures, done.unreadable) == (4, 0, 36, 1)
    rows, unreadable = read(tmp_path / 'out')
    assert unreadable == ['class_0/x\udce9\n.png'] and len(rows) == 36
    saved = read_embeddings(str(tmp_path / 'out'))
    assert saved.facts.labels.tolist() == [path.split('/')[0] for path in saved.facts.paths]
    whole = embed(pictures)
    for name, vector in zip(whole.names, whole.embeddings, strict=True):
        np.testing.assert_allclose(rows['/'.join(name.split('/')[-2:])], vector, atol=1e-6)


def test_a_second_call_makes_what_is_missing_and_nothing_else(embed, pictures, tmp_path):
    out = tmp_path / 'out'
    write_shards(embed, pictures, out, shard_size=10)
    whole, kept = contents(out), (out / '00002.npy').stat().st_mtime_ns
    # As a kill between the two files of a shard leaves it.
    (out / '00001.jsonl').unlink()
    (out / '00001.npy').write_bytes(b'half')
    done = write_shards(embed, pictures, out, shard_size=10)
    assert (done.written, done.skipped) == (1, 3)
    assert contents(out) == whole and (out / '00002.npy').stat().st_mtime_ns == kept


def test_shards_of_several_ranks_equal_those_of_one_bit_by_bit(embed, pictures, tmp_path):
    write_shards(embed, pictures, tmp_path / 'one', shard_size=7)
    parts = [write_shards(embed, pictures, tmp_path / 'three', 7, rank, 3).written for rank in (2, 0, 1)]
    assert sum(parts) == 6 and contents(tmp_path / 'three') == contents(tmp_path / 'one')


def test_shards_of_another_model_list_or_size_are_refused(embed, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / 'photos')
    out = tmp_path / 'out'
    write_shards(embed, tmp_path / 'photos', out, shard_size=40)
    with pytest.raises(ValueError, match='another model_hash'):
        write_shards(inferencer(), tmp_path / 'photos', out, shard_size=40)
    with pytest.raises(ValueError, match=r'another shard_size \(40, not 20\)'):
        write_shards(embed, tmp_path / 'photos', out, shard_size=20)
    # Another picture of the same name and size.
    file = tmp_path / 'photos/class_0/0.png'
    before, facts = file.read_bytes(), contents(out)
    file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(ValueError, match=r'1 of the 36 pictures of .*00000.jsonl are others.*such as class_0/0.png'):
        write_shards(embed, tmp_path / 'photos', out, shard_size=40)
    assert contents(out) == facts
    file.write_bytes(before)
    assert write_shards(embed, tmp_path / 'photos', out, shard_size=40).skipped == 1
    (tmp_path / 'photos/class_0/0.png').rename(tmp_path / 'photos/class_0/renamed.png')
    with pytest.raises(ValueError, match='another pictures_hash'):
        write_shards(embed, tmp_path / 'photos', out, shard_size=40)
    with pytest.raises(ValueError, match=r'rank=3 in 0..2'):
        write_shards(embed, pictures, out, rank=3, ranks=3)
    with pytest.raises(FileNotFoundError, match='there is no folder'):
        write_shards(embed, tmp_path / 'nowhere', out)


def test_a_folder_that_lacks_shards_is_not_scored_and_is_completed(embed, pictures, tmp_path):
    out = tmp_path / 'out'
    write_shards(embed, pictures, out, shard_size=10)
    whole = contents(out)
    (out / '00001.npy').unlink()
    (out / '00003.npy').unlink()
    (out / '00003.jsonl').unlink()
    with pytest.raises(ValueError, match='2 of 4 shards are missing, the first is 00001; run mmdml embed again'):
        read_embeddings(str(out))
    assert write_shards(embed, pictures, out, shard_size=10).written == 2
    assert contents(out).keys() == whole.keys() and len(read_embeddings(str(out)).embeddings) == 36


def test_shards_without_the_facts_that_they_share_are_neither_read_nor_added_to(embed, pictures, tmp_path):
    write_shards(embed, pictures, tmp_path, shard_size=20)
    (tmp_path / 'embeddings.json').unlink()
    before = contents(tmp_path)
    for read_or_write in (read_embeddings, lambda out: write_shards(embed, pictures, out, shard_size=20)):
        with pytest.raises(ValueError, match=rf'{tmp_path} lacks embeddings.json, .* mmdml embed into an empty folder'):
            read_or_write(str(tmp_path))
    assert contents(tmp_path) == before
    for file in tmp_path.glob('0*'):
        file.unlink()
    (tmp_path / 'mine.jsonl').touch()
    with pytest.raises(ValueError, match='holds no shards'):
        read_embeddings(str(tmp_path))
    assert write_shards(embed, pictures, tmp_path, shard_size=20).written == 2


@pytest.mark.parametrize('text', ['[1]', '{"pictures": 36, "shard', '{"pictures": 36, "shard_size": 0}', '{}'])
def test_damaged_facts_are_named_by_their_file(embed, pictures, tmp_path, text):
    write_shards(embed, pictures, tmp_path, shard_size=40)
    (tmp_path / 'embeddings.json').write_text(text)
    for read_or_write in (lambda: read_embeddings(str(tmp_path)), lambda: write_shards(embed, pictures, tmp_path)):
        with pytest.raises(ValueError, match=r'embeddings.json cannot be read, it is damaged \('):
            read_or_write()


@pytest.mark.parametrize('text', ['{"path": "a.png", "la', '[1]\n'])
def test_a_damaged_table_is_named(embed, pictures, tmp_path, text):
    write_shards(embed, pictures, tmp_path, shard_size=40)
    (tmp_path / '00000.jsonl').write_text(text)
    with pytest.raises(ValueError, match='00000.jsonl cannot be read, it is damaged'):
        write_shards(embed, pictures, tmp_path, shard_size=40)


@pytest.mark.parametrize(
    ('row', 'message'),
    [
        (dict(row='0'), r'00000.jsonl cannot be read, it is damaged \(a row is no number, or'),
        (dict(label=None), r'00000.jsonl cannot be read, it is damaged'),
        (dict(path=3), r'00000.jsonl cannot be read, it is damaged'),
        (dict(row=1), r'00000.jsonl names 1 pictures, its .npy file has 2 rows'),
    ],
)
def test_a_table_with_other_things_than_pictures_is_named(tmp_path, row, message):
    lines = [dict(dict(row=0, path='a', label='b'), **row), dict(row=1, path='b', label='b')]
    (tmp_path / '00000.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    (tmp_path / 'embeddings.json').write_text('{"pictures": 2, "shard_size": 2}')
    np.save(tmp_path / '00000.npy', np.eye(2))
    with pytest.raises(ValueError, match=message):
        read_embeddings(str(tmp_path))


def test_shards_of_another_shape_or_in_a_number_that_cannot_be_are_named(tmp_path):
    (tmp_path / '00000.jsonl').write_text('{"row": 0, "path": "a", "label": "b"}\n')
    np.save(tmp_path / '00000.npy', np.float32(3))
    (tmp_path / 'embeddings.json').write_text('{"pictures": 1, "shard_size": 2}')
    with pytest.raises(ValueError, match=r'00000.npy must hold embeddings \(N, D\), got shape \(\)'):
        read_embeddings(str(tmp_path))
    (tmp_path / 'embeddings.json').write_text('{"pictures": 1000000000000000, "shard_size": 1}')
    with pytest.raises(ValueError, match=r'999999999999999 of 1000000000000000 shards are missing, the first is 00001'):
        read_embeddings(str(tmp_path))


def test_a_full_disk_is_named_with_the_file(embed, pictures, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*00000\.npy'") as found:
            write_shards(embed, pictures, tmp_path / 'out')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert found.value.errno == errno.EFBIG
    assert [file.name for file in (tmp_path / 'out').iterdir()] == ['embeddings.json']


def test_pictures_are_drawn_from_where_they_were_embedded_or_are_now(embed, pictures, tmp_path, monkeypatch):
    shutil.copytree(pictures, tmp_path / 'photos')
    write_shards(embed, tmp_path / 'photos', tmp_path / 'out')
    monkeypatch.chdir(tmp_path)

    def draw(*options):
        done = CliRunner().invoke(main, ['draw', 'out', '--out', 'drawn', '--kind', 'retrieval', *options])
        assert done.exit_code == 0, done.output
        return (tmp_path / 'drawn/retrieval.png').read_bytes(), done.stderr

    drawn, warning = draw()
    assert not warning
    (tmp_path / 'photos').rename(tmp_path / 'moved')
    nothing, warning = draw()
    assert nothing != drawn
    assert f'no picture could be read, such as {tmp_path}/photos/class_0/' in warning and '--pictures' in warning
    assert draw('--pictures', 'moved') == (drawn, '')
    # Moved pictures are no other pictures.
    assert write_shards(embed, tmp_path / 'moved', tmp_path / 'out').skipped == 1
