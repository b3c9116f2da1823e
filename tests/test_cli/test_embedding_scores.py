"""mmdml/cli/embedding_scores.py: every kind of file, every option, and what it says of bad input."""

import csv
import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch

from mmdml.cli import embedding_scores as tool
from mmdml.evaluation import (
    RetrievalScoring,
    RowFacts,
    retrieval_scores,
    retrieval_values,
    threshold_consistency,
    verification_scores,
)

SCRIPT = Path(__file__).parents[2] / 'tools/analysis_tools/eval_embeddings.py'

ROWS = 30
LABELS = np.arange(ROWS) % 4
X = np.random.default_rng(0).normal(size=(4, 5))[LABELS] + np.random.default_rng(1).normal(size=(ROWS, 5))
X = X.astype(np.float32)
NAMES = np.array(['ash', 'beech', 'cedar', 'dogwood'])[LABELS]
QUERIES = 12
ROLES = np.repeat([1, 2], [QUERIES, ROWS - QUERIES])


@pytest.fixture
def score(capsys):
    """Scores as fractions, of the tool with these arguments."""

    def run(*arguments):
        tool.main([*map(str, arguments), '--json', '-'])
        return {name: value / 100 for name, value in json.loads(capsys.readouterr().out)['scores'].items()}

    return run


@pytest.fixture
def fails():
    """What the tool says before it ends with an error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            tool.main([*map(str, arguments)])
        return str(caught.value)

    return run


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / 'plain.npz'
    # tools/test.py --out writes paths as well.
    np.savez(path, embeddings=X, labels=LABELS, paths=np.array([f'{row}.png' for row in range(ROWS)]))
    return path


def expected(**options):
    return pytest.approx(retrieval_scores(X, LABELS, **options))


def between_sides(**options):
    sides = (X[:QUERIES], LABELS[:QUERIES], X[QUERIES:], LABELS[QUERIES:])
    return pytest.approx(retrieval_scores(*sides, **options))


# ---- files ----


def test_a_table_is_printed_and_the_json_file_has_the_same_scores(plain, tmp_path, capsys):
    tool.main([str(plain), '--recall-at', '1', '4', '--json', str(tmp_path / 'scores.json')])
    title, search, header, line = capsys.readouterr().out.splitlines()
    found = json.loads((tmp_path / 'scores.json').read_text())
    assert title == '30 embeddings of 5 dimensions, 4 classes; percent'
    assert search == found['search'] == 'cosine, every image searches all others'
    assert header.split() == ['Recall@1', 'Recall@4', 'MAP@R', 'RP'] == list(found['scores'])
    assert line.split() == [f'{value:.2f}' for value in found['scores'].values()]
    assert (found['embeddings'], found['dimensions'], found['classes']) == (30, 5, 4)
    assert found['options']['recall_at'] == [1, 4] and found['options']['distance'] == 'cosine'


def test_it_runs_as_a_program(plain):
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', SCRIPT, plain, '--metrics', 'RP', '--json', '-'],
        cwd=SCRIPT.parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)['scores']['RP'] / 100 == expected(metrics=['RP']).expected['RP']


@pytest.mark.parametrize('dtype', [np.float16, np.float64])
def test_half_and_double_precision_and_names_in_the_singular_are_read(score, tmp_path, dtype):
    np.savez(tmp_path / 'x.npz', embedding=X.astype(dtype), label=NAMES)
    assert score(tmp_path / 'x.npz') == pytest.approx(retrieval_scores(X.astype(dtype).astype(np.float64), NAMES))


def test_roles_ids_and_groups_of_a_file_are_used(score, tmp_path):
    groups = np.arange(ROWS) // 3 % 3
    # Query 0 is gallery image 12 under another row.
    ids = np.where(np.arange(ROWS) == 12, 0, np.arange(ROWS))
    np.savez(tmp_path / 'x.npz', embeddings=X, labels=LABELS, roles=ROLES, ids=ids, groups=groups)
    query, gallery = slice(QUERIES), slice(QUERIES, ROWS)
    keys = dict(query_ids=ids[query], gallery_ids=ids[gallery])
    keys |= dict(query_groups=groups[query], gallery_groups=groups[gallery])
    assert score(tmp_path / 'x.npz') == between_sides(**keys)
    assert score(tmp_path / 'x.npz') != between_sides()


def test_query_and_gallery_may_be_arrays_of_their_own(score, tmp_path):
    sides = dict(query_embeddings=X[:QUERIES], query_labels=NAMES[:QUERIES])
    sides |= dict(gallery_embeddings=X[QUERIES:], gallery_labels=NAMES[QUERIES:])
    np.savez(tmp_path / 'x.npz', **sides)
    assert score(tmp_path / 'x.npz') == between_sides()


def test_labels_may_be_in_a_file_of_their_own(score, tmp_path):
    np.save(tmp_path / 'x.npy', X)
    np.save(tmp_path / 'labels.npy', LABELS)
    (tmp_path / 'labels.txt').write_text('\n'.join(NAMES) + '\n')
    for name in ('labels.npy', 'labels.txt'):
        assert score(tmp_path / 'x.npy', '--labels', tmp_path / name) == expected()
    rows = ['label,camera,roles', *(f'{name},1,{role}' for name, role in zip(NAMES, ROLES, strict=True))]
    (tmp_path / 'labels.csv').write_text('\n'.join(rows))
    assert score(tmp_path / 'x.npy', '--labels', tmp_path / 'labels.csv') == between_sides()


@pytest.mark.parametrize('kind', [pyarrow.list_(pyarrow.float32()), pyarrow.list_(pyarrow.float32(), 5)])
@pytest.mark.parametrize('labels', [LABELS, NAMES], ids=['integers', 'strings'])
def test_parquet_files_are_read(score, tmp_path, kind, labels):
    columns = dict(embedding=pyarrow.array(X.tolist(), kind), label=labels, role=ROLES, note=['x'] * ROWS)
    # Several row groups arrive as several chunks.
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / 'x.parquet', row_group_size=7)
    assert score(tmp_path / 'x.parquet') == between_sides()


CATEGORIES = pyarrow.dictionary(pyarrow.int8(), pyarrow.string())


@pytest.mark.parametrize('kind', [pyarrow.string(), pyarrow.large_string(), pyarrow.string_view(), CATEGORIES], ids=str)
def test_parquet_strings_may_be_of_any_type(score, tmp_path, kind):
    labels = pyarrow.array(NAMES.tolist(), pyarrow.string()).cast(kind)
    columns = dict(embedding=X.tolist(), label=labels, role=ROLES)
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / 'x.parquet', row_group_size=7)
    assert pyarrow.parquet.read_schema(tmp_path / 'x.parquet').field('label').type == kind
    assert score(tmp_path / 'x.parquet') == between_sides()


def test_parquet_without_pyarrow_is_explained(fails, tmp_path, monkeypatch):
    (tmp_path / 'x.parquet').write_bytes(b'')
    monkeypatch.setitem(sys.modules, 'pyarrow.parquet', None)
    assert 'needs pyarrow: pip install pyarrow' in fails(tmp_path / 'x.parquet')


# ---- options ----


def test_options_of_the_search_are_passed_on(score, plain):
    arguments = ['--metrics', 'CMC@1', 'mAP', '--distance', 'euclidean', '--ties', 'optimistic', '--block-size', 7]
    assert score(plain, *arguments) == expected(metrics=['CMC@1', 'mAP'], distance='euclidean', ties='optimistic')
    assert score(plain, '--backend', 'faiss') == expected()
    assert score(plain, '--device', 'cpu', '--no-positive', 'miss') == expected()


@pytest.mark.parametrize(
    'arguments, options',
    [
        (['--expand', 'k=3', 'alpha=0.5'], dict(query_expansion=dict(k=3, alpha=0.5))),
        (['--whiten', 'dim=2'], dict(whitening=dict(dim=2))),
        (['--whiten'], dict(whitening={})),
        (['--clustering', 'NMI', 'F1', 'restarts=2'], dict(clustering=dict(metrics=['NMI', 'F1'], restarts=2))),
        (['--clustering'], dict(clustering={})),
        (['--protocol', 'SingleGalleryShot', 'repeats=3'], dict(protocol=dict(type='SingleGalleryShot', repeats=3))),
        (['--rerank', 'k1=5', 'weight=0.5'], dict(reranking=dict(k1=5, weight=0.5))),
    ],
    ids=lambda value: ' '.join(value) if isinstance(value, list) else '',
)
def test_options_with_settings_are_passed_on(score, plain, arguments, options):
    scores = score(plain, *arguments)
    assert scores == pytest.approx(RetrievalScoring(**options)(X, RowFacts.of(LABELS)))
    assert scores != expected()


def test_parts_of_a_file_are_scored_each_by_itself(tmp_path, capsys):
    parts = np.repeat(['small', 'large'], [10, 20])
    np.savez(tmp_path / 'x.npz', embeddings=X, labels=LABELS, parts=parts)
    arguments = ['--protocol', 'SingleGalleryShot', 'repeats=2', '--recall-at', '1', '--metrics', 'Recall@K']
    tool.main([str(tmp_path / 'x.npz'), *arguments])
    _, search, header, small, large = capsys.readouterr().out.splitlines()
    scores = RetrievalScoring(
        dict(type='PerPart', protocol=dict(type='SingleGalleryShot', repeats=2)), recall_at=[1], metrics=['Recall@K']
    )(X, RowFacts.of(LABELS, parts=parts))
    assert header.split() == ['Recall@1'] and search == 'cosine, PerPart of SingleGalleryShot'
    for line, part in ((small, 'small'), (large, 'large')):
        mean, std = (100 * scores[f'{part}/Recall@1{end}'] for end in ('', '_std'))
        assert line.split() == [part, f'{mean:.2f}', '±', f'{std:.2f}']


# ---- bad input ----


def test_files_that_are_not_there_or_of_another_kind_are_named(fails, tmp_path):
    assert 'there is no file' in fails(tmp_path / 'none.npz')
    (tmp_path / 'x.mat').write_bytes(b'')
    assert "unknown kind '.mat'; known are ['.npz', '.npy', '.parquet']" in fails(tmp_path / 'x.mat')


@pytest.mark.parametrize(
    'arrays, words',
    [
        (dict(feats=X, labels=LABELS), "no array 'embeddings' (or 'query_embeddings'), only ['feats', 'labels']"),
        (dict(embeddings=X), 'has no labels'),
        (dict(embeddings=X, labels=LABELS[:5]), '30 embeddings, but 5 labels'),
        (dict(embeddings=X, labels=LABELS, label=LABELS), "'labels' both in the singular and in the plural"),
        (dict(embeddings=X[0], labels=LABELS), 'must be numbers of shape (N, D), got float32 of shape (5,)'),
        (dict(embeddings=X, labels=LABELS, roles=LABELS + 1), 'got [3, 4]'),
        (
            dict(embeddings=X, labels=LABELS, roles=NAMES),
            "roles must be of ('both', 'query', 'gallery', '0', '1', '2'), got ['ash',",
        ),
        (dict(embeddings=X, labels=LABELS.astype(float)), 'must be integers or strings, got float64'),
        (dict(query_embeddings=X, query_labels=LABELS), 'the same arrays with query_ as with gallery_'),
        (
            dict(query_embeddings=X, query_labels=LABELS, gallery_embeddings=X, gallery_labels=NAMES),
            'nothing would match',
        ),
        (dict(embeddings=np.full((ROWS, 2), np.nan), labels=LABELS), 'not finite'),
        (dict(embeddings=X, labels=np.where(LABELS, NAMES, '')), '8 of 30 images have no label, the first is row'),
        (
            dict(embeddings=X, labels=np.eye(3)[LABELS % 3]),
            'must be one for each embedding, of shape (30,), got (30, 3)',
        ),
        (dict(embeddings=X, labels=np.array(3)), 'labels must be one for each embedding, of shape (30,), got ()'),
        (dict(embeddings=X, labels=LABELS, paths=LABELS), 'paths must be strings, got int64'),
        (dict(embeddings=X, labels=LABELS, groups=LABELS[:3]), '30 embeddings, but 3 groups'),
        (dict(embeddings=X, labels=np.array([b'\xff'] * ROWS)), 'labels are bytes, and not UTF-8'),
        (dict(embeddings=X, labels=np.arange(ROWS), ids=np.arange(ROWS) // 2), 'rows 0 and 1 are one image, but have'),
        (
            dict(
                query_embeddings=X[:10], query_labels=LABELS[:9], gallery_embeddings=X[10:], gallery_labels=LABELS[9:]
            ),
            'there are 10 query_embeddings, but 9 query_labels',
        ),
    ],
    ids=lambda value: ' '.join(value) if isinstance(value, dict) else '',
)
def test_arrays_that_do_not_fit_are_named(fails, tmp_path, arrays, words):
    np.savez(tmp_path / 'x.npz', **arrays)
    assert words in fails(tmp_path / 'x.npz')


def test_objects_are_not_unpickled(fails, tmp_path):
    np.savez(tmp_path / 'x.npz', embeddings=X, labels=NAMES.astype(object))
    message = fails(tmp_path / 'x.npz')
    assert 'labels cannot be read' in message and 'np.array(labels, dtype=str)' in message


def test_two_sets_of_labels_and_tables_without_labels_are_refused(fails, plain, tmp_path):
    np.save(tmp_path / 'labels.npy', LABELS)
    assert "['labels'] are in" in fails(plain, '--labels', tmp_path / 'labels.npy')
    np.save(tmp_path / 'x.npy', X)
    (tmp_path / 'x.csv').write_text('class,id\n1,2\n')
    assert "no column 'labels'" in fails(tmp_path / 'x.npy', '--labels', tmp_path / 'x.csv')
    (tmp_path / 'x.csv').write_text('label,id\n1,2\n3\n')
    message = fails(tmp_path / 'x.npy', '--labels', tmp_path / 'x.csv')
    assert "x.csv, line 3: expected 2 values as in ['label', 'id'], got ['3']" in message


@pytest.mark.parametrize(
    'column, words',
    [
        (pyarrow.array([[1.0, 2.0], [1.0]]), r'must be of one length, got [1, 2]'),
        (pyarrow.array([[1.0, 2.0], None]), 'lacks 1 of 2 values'),
        (pyarrow.array([1.0, 2.0]), 'must hold lists of numbers, got double'),
        (pyarrow.array(['a', 'b']).dictionary_encode(), 'must hold lists of numbers, got string'),
    ],
    ids=['ragged', 'null', 'numbers', 'categories'],
)
def test_parquet_columns_that_are_no_matrix_are_named(fails, tmp_path, column, words):
    pyarrow.parquet.write_table(pyarrow.table(dict(embeddings=column, labels=[0, 0])), tmp_path / 'x.parquet')
    assert words in fails(tmp_path / 'x.parquet')


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['--expand', '5'], "expected key=value, got '5'"),
        (['--expand', 'n=5'], "query_expansion has no setting 'n'; known are ["),
        (['--rerank', 'k3=5'], "reranking has no setting 'k3'; known are ['k1', 'k2', 'weight']"),
        (['--clustering', 'restart=1'], "clustering has no setting 'restart'"),
        (['--whiten', 'dims=2'], "did you mean 'dim'?"),
        (['--consistency', 'fpr_range=0.1'], 'fpr_range must be two rising rates in (0, 1], got 0.1'),
        (['--device', 'gpu'], '--device gpu cannot be used'),
        (['--protocol', 'SingleGaleryShot'], "did you mean 'SingleGalleryShot'?"),
        (['--protocol', 'QueryGallery'], 'every image is both'),
        (['--clustering', 'ARIE'], "did you mean 'ARI'?"),
        (['--verification', 'fpr=2'], 'fpr must hold rates in (0, 1], got [2]'),
        (['--metrics', 'Recall'], "unknown metrics ['Recall']"),
    ],
    ids=lambda value: ' '.join(value) if isinstance(value, list) else '',
)
def test_wrong_settings_are_named(fails, plain, arguments, words):
    assert words in fails(plain, *arguments)


# ---- labels as other systems write them ----


def separable(tmp_path):
    """Embeddings of 20 classes, each alone in its direction, and their labels."""
    labels = np.repeat(np.arange(20), 4)
    np.save(tmp_path / 'x.npy', np.eye(20, dtype=np.float32)[labels])
    return labels


@pytest.mark.parametrize(
    'name, text',
    [
        ('l.txt', lambda y: '\n'.join(f'{v} ' if i % 5 == 0 else f'{v}' for i, v in enumerate(y))),
        ('l.txt', lambda y: '\r'.join(map(str, y)) + '\r\n\r\n'),
        ('l.txt', lambda y: '\n'.join(f'a\u2028b{v}' for v in y)),
        ('l.csv', lambda y: 'Label\n' + '\n'.join(map(str, y))),
        ('l.csv', lambda y: 'x;LABELS \n' + '\n'.join(f'0; {v}' for v in y)),
        ('l.tsv', lambda y: 'label\tpath\n' + '\n'.join(f'{v}\t{i}, 1.png' for i, v in enumerate(y))),
    ],
)
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_labels_are_read_whatever_blanks_line_ends_header_and_encoding(score, tmp_path, name, text, encoding):
    labels = separable(tmp_path)
    (tmp_path / name).write_bytes(text(labels.tolist()).encode(encoding))
    scores = score(tmp_path / 'x.npy', '--labels', tmp_path / name)
    assert scores['Recall@1'] == scores['RP'] == 1


@pytest.mark.parametrize(
    'name, content, words',
    [
        ('l.txt', 'M\xfcll\n'.encode('latin-1') * 80, "line 1 is not UTF-8: it has the byte b'\\xfc'"),
        ('l.txt', b'label\n' + b'1\n' * 80, 'the first line is label: tables with a header end with .csv'),
        ('l.txt', b'1\n\n' * 40 + b'1', 'line 2: there is no label'),
        ('l.csv', b'label,Label\n' + b'1,1\n' * 80, "the column 'label' stands twice"),
        ('l.csv', b'label,path\n' + b'1,a\n' * 79 + b',b\n', 'line 81: labels are missing'),
        ('l.csv', b'', 'is empty'),
    ],
)
def test_labels_that_cannot_be_read_are_named_by_file_and_line(fails, tmp_path, name, content, words):
    separable(tmp_path)
    (tmp_path / name).write_bytes(content)
    message = fails(tmp_path / 'x.npy', '--labels', tmp_path / name)
    assert name in message and words in message and '\n' not in message


def test_rows_of_one_file_are_one_image(score, tmp_path):
    """24 pictures with random vectors: a query that is in the gallery as well does not find itself."""
    x, labels = np.random.default_rng(0).normal(size=(24, 8)), np.arange(24) % 8
    names = np.array([f'a{i}.png' for i in range(24)])
    np.savez(tmp_path / 'once.npz', embeddings=x, labels=labels)
    once = score(tmp_path / 'once.npz')
    assert once['Recall@1'] < 0.5
    both, twice = np.concatenate([x, x]), np.concatenate([labels, labels])
    paths = np.concatenate([names, np.char.add('./', names)])
    roles = np.repeat([1, 2], 24)
    np.savez(tmp_path / 'lists.npz', embeddings=both, labels=twice, paths=paths, roles=roles)
    assert score(tmp_path / 'lists.npz') == pytest.approx(once)
    np.savez(tmp_path / 'lines.npz', embeddings=both, labels=twice, paths=paths)
    assert score(tmp_path / 'lines.npz', '--recall-at', 1)['Recall@1'] == pytest.approx(once['Recall@1'])


def test_one_file_with_two_labels_is_refused(fails, tmp_path):
    np.savez(tmp_path / 'x.npz', embeddings=X[:2], labels=['a', 'b'], paths=['a0.png', './a0.png'])
    assert 'a0.png and ./a0.png are one image, but have the labels a and b' in fails(tmp_path / 'x.npz')


# ---- files that are something else ----

PAGE = b'<!DOCTYPE html><html><body>Sign in</body></html>'


@pytest.mark.parametrize(
    'name, content, words',
    [
        ('x.npz', PAGE, 'x.npz is no .npz file, it is a web page'),
        ('x.npy', PAGE, 'x.npy is no .npy file, it is a web page'),
        ('x.parquet', PAGE, 'x.parquet cannot be read as .parquet'),
        ('x.npz', b'\x80\x04\x95\x00', 'x.npz is no .npz file, it begins with'),
        ('x.npz', b'', 'x.npz is empty'),
        ('x.npz', b'PK\x03\x04' + b'0' * 50, 'x.npz cannot be read as .npz, it is damaged or incomplete'),
        ('x.npy', b'\x93NUMPY', 'x.npy: it cannot be read'),
    ],
)
def test_files_of_another_kind_under_the_name_are_named(fails, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    message = fails(tmp_path / name)
    assert words in message and 'allow_pickle' not in message


@pytest.mark.parametrize('share', [0.3, 0.6, 0.9])
def test_files_that_are_cut_are_named(fails, tmp_path, share):
    for name, save in (
        ('x.npz', lambda file: np.savez_compressed(file, embeddings=X, labels=LABELS)),
        ('x.npy', lambda file: np.save(file, X)),
        ('x.parquet', lambda file: pyarrow.parquet.write_table(pyarrow.table(dict(embeddings=X.tolist())), file)),
    ):
        path = tmp_path / name
        save(path)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        np.savetxt(tmp_path / 'labels.txt', LABELS, '%d')
        arguments = [] if name == 'x.npz' else ['--labels', tmp_path / 'labels.txt']
        assert f'{name}' in fails(path, *arguments)


def test_a_damaged_array_in_an_archive_is_named(fails, tmp_path):
    np.savez(tmp_path / 'x.npz', embeddings=X, labels=LABELS)
    content = bytearray((tmp_path / 'x.npz').read_bytes())
    content[300] ^= 255
    (tmp_path / 'x.npz').write_bytes(content)
    assert 'x.npz: embeddings cannot be read, the file is damaged or incomplete' in fails(tmp_path / 'x.npz')


def test_parquet_tensors_of_one_axis_are_read_and_others_are_named(score, fails, tmp_path):
    column = pyarrow.FixedShapeTensorArray.from_numpy_ndarray(X)
    pyarrow.parquet.write_table(pyarrow.table(dict(embedding=column, label=NAMES, role=ROLES)), tmp_path / 'x.parquet')
    assert score(tmp_path / 'x.parquet') == between_sides()
    column = pyarrow.FixedShapeTensorArray.from_numpy_ndarray(X.reshape(ROWS, 5, 1))
    pyarrow.parquet.write_table(pyarrow.table(dict(embedding=column, label=NAMES)), tmp_path / 'x.parquet')
    assert 'must hold vectors, got tensors of shape (5, 1)' in fails(tmp_path / 'x.parquet')


@pytest.mark.filterwarnings('error')
def test_read_only_arrays_are_scored_without_a_warning(score, tmp_path):
    pyarrow.parquet.write_table(pyarrow.table(dict(embedding=X.tolist(), label=NAMES)), tmp_path / 'x.parquet')
    assert score(tmp_path / 'x.parquet') == expected()
    x = X.copy()
    x.flags.writeable = False
    assert retrieval_scores(x, LABELS) == expected()


@pytest.mark.parametrize(
    'shape, words', [((0, 5), 'holds no embeddings'), ((30, 0), 'holds 30 embeddings without dimensions')]
)
def test_files_without_embeddings_or_dimensions_are_named(fails, tmp_path, shape, words):
    np.savez(tmp_path / 'x.npz', embeddings=np.zeros(shape), labels=LABELS[: shape[0]])
    assert words in fails(tmp_path / 'x.npz')


def test_a_single_embedding_has_nothing_to_find(fails, tmp_path):
    np.savez(tmp_path / 'x.npz', embeddings=X[:1], labels=LABELS[:1])
    assert 'none of the 1 queries has a positive' in fails(tmp_path / 'x.npz')


# ---- the command ----


def test_the_place_of_the_json_file_is_made_or_refused_before_any_work(fails, plain, tmp_path):
    tool.main([str(plain), '--json', str(tmp_path / 'new/folder/scores.json')])
    assert json.loads((tmp_path / 'new/folder/scores.json').read_text())['scores']
    (tmp_path / 'file').write_text('')
    message = fails(tmp_path / 'none.npz', '--json', tmp_path / 'file/scores.json')
    assert 'the folder of the output' in message and 'cannot be made' in message
    assert 'is a folder; name a file' in fails(tmp_path / 'none.npz', '--json', tmp_path)


@pytest.mark.parametrize(
    'options',
    [
        ('--json', 'plain.npz'),
        ('--json', 'labels.csv', '--labels', 'labels.csv'),
        ('--json', 'train.npz', '--whiten', 'fit=train.npz'),
        ('--values', 'labels.csv', '--labels', 'labels.csv'),
    ],
    ids=' '.join,
)
def test_outputs_that_are_inputs_are_refused(fails, plain, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    for name in ('labels.csv', 'train.npz'):
        (tmp_path / name).write_bytes(plain.read_bytes())
    assert f'{options[1]} is a file that is read; name another one' in fails('plain.npz', *options)
    assert (tmp_path / options[1]).read_bytes() == plain.read_bytes()


def test_recall_at_counts_beside_other_metrics(score, plain):
    assert list(score(plain, '--metrics', 'mAP', '--recall-at', 3)) == ['Recall@3', 'mAP']
    assert list(score(plain, '--metrics', 'mAP')) == ['mAP']


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['--rerank'], 'reranking (defaults); transductive'),
        (['--rerank', 'k1=5'], 'reranking (k1=5); transductive'),
        (['--expand', 'k=3'], 'query expansion (k=3); transductive'),
        (['--whiten', 'dim=2'], 'whitening (dim=2 fit=gallery); transductive'),
        (['--distance', 'dot', '--ties', 'optimistic'], 'dot, every image searches all others; ties optimistic'),
    ],
)
def test_the_table_states_what_was_done(plain, capsys, arguments, words):
    tool.main([str(plain), *arguments])
    assert words in capsys.readouterr().out.splitlines()[1]


def test_the_table_states_what_a_file_with_groups_and_parts_does_to_the_search(tmp_path, capsys):
    parts = np.where(np.arange(ROWS) % 2, 'small', 'large')
    np.savez(tmp_path / 'x.npz', embeddings=X, labels=LABELS, groups=np.arange(ROWS) % 5, parts=parts)
    for arguments, words in (
        ([], 'cosine, PerPart; gallery rows of the label and group of a query do not count'),
        (['--protocol', 'SingleGalleryShot', '--no-positive', 'miss'], 'cosine, PerPart of SingleGalleryShot; gallery'),
    ):
        tool.main([str(tmp_path / 'x.npz'), *arguments])
        assert capsys.readouterr().out.splitlines()[1].startswith(words)


def test_errors_are_one_line_unless_the_traceback_is_asked_for(fails, tmp_path):
    assert fails(tmp_path / 'none.npz') == f'eval_embeddings: there is no file {tmp_path}/none.npz'
    with pytest.raises(FileNotFoundError):
        tool.main([str(tmp_path / 'none.npz'), '--debug'])


def test_verification_and_consistency_are_scored_beside_the_search(plain, capsys):
    tool.main([str(plain), '--verification', 'fpr=0.1', '--consistency', 'fpr_range=0.1,0.5', '--json', '-'])
    scores = json.loads(capsys.readouterr().out)['scores']
    pairs = verification_scores(X, LABELS, fpr=[0.1])
    assert scores['EER'] == pytest.approx(100 * pairs['EER'])
    assert scores['TPR@FPR=0.1'] == pytest.approx(100 * pairs['TPR@FPR=0.1'])
    # A threshold is no share of anything.
    assert scores['threshold@FPR=0.1'] == pytest.approx(pairs['threshold@FPR=0.1'])
    assert scores['OPIS'] == pytest.approx(threshold_consistency(X, LABELS, fpr_range=(0.1, 0.5))['OPIS'])


def test_values_of_queries_and_classes_are_written_on_request(tmp_path):
    labels = np.where(np.arange(ROWS) == 3, 99, LABELS)
    np.savez(tmp_path / 'x.npz', embeddings=X, labels=labels, roles=ROLES, paths=[f'é{i}.png' for i in range(ROWS)])
    tool.main([str(tmp_path / 'x.npz'), '--values', str(tmp_path / 'new/values.csv')])
    with open(tmp_path / 'new/values.csv', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    sides = (X[:QUERIES], labels[:QUERIES], X[QUERIES:], labels[QUERIES:])
    values = retrieval_values(*sides)
    assert [row['path'] for row in rows] == [f'é{i}.png' for i in range(QUERIES)]
    assert [row['label'] for row in rows] == [str(label) for label in labels[:QUERIES]]
    # Query 3 has no positive.
    assert rows[3]['positives'] == '0' and rows[3]['MAP@R'] == ''
    assert [float(row['MAP@R']) for row in rows if row['positives'] != '0'] == pytest.approx(
        values.values['MAP@R'][values.answered].tolist()
    )
    with open(tmp_path / 'new/values.classes.csv', encoding='utf-8') as file:
        classes = {row['label']: row for row in csv.DictReader(file)}
    expected = values.class_means(labels[:QUERIES])
    assert {label: float(row['RP']) for label, row in classes.items()} == pytest.approx(
        {str(label): means['RP'] for label, means in expected.items()}
    )
    assert sum(int(row['queries']) for row in classes.values()) == QUERIES - 1


def test_images_of_one_class_get_a_remark(score, tmp_path, caplog):
    np.savez(tmp_path / 'x.npz', embeddings=X, labels=np.full(ROWS, 7))
    with caplog.at_level(logging.WARNING, logger='mmdml'):
        assert score(tmp_path / 'x.npz')['Recall@1'] == 1
    assert 'all 30 images are of one class, 7: every result is right' in caplog.text


def test_clustering_that_cannot_be_had_ends_before_the_search(fails, plain):
    message = fails(plain, '--clustering', 'num_clusters=31')
    assert 'num_clusters must be 1..30, the number of embeddings, got 31' in message


@pytest.mark.parametrize(
    ('json_out', 'options'),
    [
        ('x.csv', '--json and --values'),
        ('folder/x.csv', '--json and --values'),
        ('x.classes.csv', '--json and the table by class of --values'),
    ],
)
def test_two_outputs_of_one_name_are_refused(fails, plain, tmp_path, monkeypatch, json_out, options):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder').symlink_to(tmp_path)
    message = fails('plain.npz', '--json', json_out, '--values', 'x.csv')
    assert message == f'eval_embeddings: {options} are one file, {tmp_path}/{message.rpartition("/")[2]}'
    assert message.endswith('; name another one for either') and not list(tmp_path.glob('x.*'))


@pytest.mark.parametrize('rows', [[[0, 2**53], [1, 2**53 + 1]], [[0, -(2**53) - 1], [3, 3]], [[0, 3], [2**64 - 1, 3]]])
def test_whole_numbers_that_fp64_does_not_tell_apart_are_refused(fails, tmp_path, rows):
    # The first two differ by one, and would be equal as fp64.
    embeddings = np.array(rows, dtype=np.uint64 if rows[1][0] > 2**63 else np.int64)
    np.savez(tmp_path / 'x.npz', embeddings=embeddings, labels=[0, 0])
    message = fails(tmp_path / 'x.npz', '--distance', 'euclidean')
    row = 0 if rows[0][1] < 0 else 1
    assert 'x.npz: 1 of 2 embeddings have whole numbers beyond 2**53, which fp64 does not tell apart, ' in message
    assert f'the first is row {row}: scale them' in message
    for given in (embeddings, torch.from_numpy(embeddings)):
        with pytest.raises(ValueError, match=r'query embeddings have whole numbers beyond 2\*\*53'):
            retrieval_scores(given, [0, 0], distance='euclidean')


def test_whole_numbers_up_to_2_to_the_53_are_scored(score, tmp_path):
    embeddings = np.array([[2**53, 0], [2**53 - 1, 0], [-(2**53), 0], [1 - 2**53, 0]])
    np.savez(tmp_path / 'x.npz', embeddings=embeddings, labels=[0, 0, 1, 1])
    assert score(tmp_path / 'x.npz', '--distance', 'euclidean', '--recall-at', 1)['Recall@1'] == 1


def test_a_hash_of_the_model_is_one_text(fails, tmp_path):
    np.savez(tmp_path / 'x.npz', embeddings=X, labels=LABELS, model_hash=np.array(['a', 'b']))
    assert 'x.npz: model_hash must be one text, got shape (2,)' in fails(tmp_path / 'x.npz')


def test_json_has_no_infinity(tmp_path, capsys):
    # The nearest pair is of two classes: no threshold lets so few negatives pass.
    rows = np.array([[1, 0], [0, 1], [1, 0.01], [0, 1.5]], np.float32)
    np.savez(tmp_path / 'e.npz', embeddings=rows, labels=[0, 0, 1, 1])
    tool.main([str(tmp_path / 'e.npz'), '--verification', 'fpr=0.0001', '--json', '-'])
    scores = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)['scores']
    assert scores['threshold@FPR=0.0001'] is None and scores['Recall@1'] == 0


def test_bytes_in_further_columns_are_texts(score, tmp_path):
    random = np.random.default_rng(0)
    rows, labels = random.normal(size=(40, 6)).astype(np.float32), np.repeat(np.arange(8), 5)
    tags = np.array(['|'.join(random.permutation(['cat', 'dog', 'cow'])[: random.integers(1, 3)]) for _ in range(40)])
    values = []
    for kind in ('U', 'S'):
        np.savez(tmp_path / 'e.npz', embeddings=rows, labels=labels, column_tags=tags.astype(kind))
        values.append(score(tmp_path / 'e.npz', '--graded', 'label_sets=tags'))
    assert values[0] == values[1] and 'GradedNDCG' in ' '.join(values[0])


def test_sides_whose_labels_are_signed_and_unsigned_are_joined(score, tmp_path):
    rows, labels = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 4
    sides = dict(query_embeddings=rows[:8], gallery_embeddings=rows[8:])
    np.savez(tmp_path / 'a.npz', **sides, query_labels=labels[:8], gallery_labels=labels[8:])
    np.savez(tmp_path / 'b.npz', **sides, query_labels=labels[:8].astype(np.uint64), gallery_labels=labels[8:])
    assert score(tmp_path / 'a.npz') == score(tmp_path / 'b.npz')
