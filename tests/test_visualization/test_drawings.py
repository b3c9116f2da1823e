"""What pictures of embeddings show: the right rows, in frames of the right color, whatever the names."""

import os

import cv2
import numpy as np
import pytest
import torch

from mmdml.functional.embedding_files import write_embeddings
from mmdml.structures.row_facts import RowFacts
from mmdml.visualization import draw_embeddings, embedding_drawings
from mmdml.visualization.charts import draw_map, project
from mmdml.visualization.embedding_drawings import KINDS, pair_similarities
from mmdml.visualization.neighbors import SearchedRows
from mmdml.visualization.retrieved import choose_queries, confusions, retrieval_sheet, worst_queries
from mmdml.visualization.tiles import QUERY, RIGHT, SIDE, WRONG, read_picture, shortened, tile

# Angles of unit vectors: 0 and 1 are of class 'a', 2 of class 'b' lies between them, 3 is the other 'b'.
ANGLES = np.array([0.0, 0.4, 0.25, 2.0])
ROWS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
LABELS = np.array(['a', 'a', 'b', 'b'])


def picture(row):
    return np.full((20, 30, 3), 40 * row, np.uint8)


def searched(**facts):
    return SearchedRows.of(ROWS, RowFacts.of(LABELS, **facts))


def test_neighbors_leave_out_the_query_and_junk():
    scores, rows = searched().nearest(np.array([0, 3]), 3)
    assert rows.tolist() == [[2, 1, 3], [1, 2, 0]]
    np.testing.assert_allclose(scores[0], np.cos([0.25, 0.4, 2.0]), rtol=1e-6)
    # Rows 0 and 1 are of one class and camera; the gallery has fewer rows than asked for.
    _, rows = searched(groups=['x', 'x', 'y', 'z']).nearest(np.array([0]), 9)
    assert rows.tolist() == [[2, 3, -1, -1]]
    _, rows = searched(roles=[1, 2, 2, 1]).nearest(np.array([0]), 2)
    assert rows.tolist() == [[2, 1]]


def test_frames_are_green_for_the_class_of_the_query_and_red_for_others():
    sheet = retrieval_sheet(searched(), np.array([0]), picture, k=3)
    width = SIDE + 8
    assert sheet.shape == (SIDE + 8 + 2 * 18, 4 * width, 3)
    corners = [tuple(sheet[1, number * width + 1]) for number in range(4)]
    assert corners == [QUERY, WRONG, RIGHT, WRONG]
    middles = [int(sheet[4 + SIDE // 2, number * width + width // 2, 0]) for number in range(4)]
    assert middles == [0, 80, 40, 120]


def test_worst_queries_are_those_that_find_their_class_last():
    query, ranks = worst_queries(searched(), 3)
    # Row 2 finds row 3 last; all others find their class at rank 2.
    assert query[0] == 2 and ranks.tolist() == [3, 2, 2]
    alone = SearchedRows.of(ROWS, RowFacts.of(np.array(['a', 'a', 'b', 'c'])))
    assert sorted(worst_queries(alone, 9)[0].tolist()) == [0, 1]


def test_confusions_count_classes_of_nearest_rows():
    # Of class a, row 0 and row 1 find row 2 first; of b, rows 2 and 3 find row 1.
    found = {(first, second): cases for first, second, cases in confusions(searched())}
    assert found == {('a', 'b'): [(1, 2), (0, 2)], ('b', 'a'): [(2, 1), (3, 1)]}


def test_queries_are_of_as_many_classes_as_there_are():
    facts = RowFacts.of(np.repeat(np.arange(5), 20))
    many = SearchedRows.of(np.random.default_rng(0).normal(size=(100, 4)), facts)
    chosen = choose_queries(many, 5, seed=3)
    assert sorted(facts.labels[chosen].tolist()) == [0, 1, 2, 3, 4]
    assert choose_queries(many, 5, seed=3).tolist() == chosen.tolist() != choose_queries(many, 5, seed=4).tolist()


def test_cosines_of_pairs_are_sorted_by_class():
    positive, negative = pair_similarities(searched())
    np.testing.assert_allclose(np.sort(positive), np.sort(np.cos([0.4, 1.75])), atol=1e-6)
    np.testing.assert_allclose(np.sort(negative), np.sort(np.cos([0.25, 2.0, 0.15, 1.6])), atol=1e-6)


def test_pca_keeps_distances_of_a_plane_and_has_a_fixed_sign():
    flat = (
        np.random.default_rng(0).normal(size=(30, 2)) @ np.linalg.qr(np.random.default_rng(1).normal(size=(5, 2)))[0].T
    )
    points, what = project(flat)
    np.testing.assert_allclose(
        np.linalg.norm(points[:, None] - points, axis=2), np.linalg.norm(flat[:, None] - flat, axis=2), atol=1e-5
    )
    assert '100%' in what
    np.testing.assert_allclose(project(flat[::-1])[0][::-1], points, atol=1e-5)
    with pytest.raises(ValueError, match="must be one of pca, umap, got 'tsne'"):
        project(flat, 'tsne')


def test_every_kind_is_drawn_with_any_name_and_without_files(tmp_path):
    names = ['_under$x^2$', 'two\nlines', 'caf\udce9', 'emoji 😀 名', 'x' * 300, '<b>']
    labels = np.repeat(np.arange(6), 4)
    folder = tmp_path / 'pictures'
    folder.mkdir()
    paths = []
    for number in range(24):
        paths.append(os.path.join(os.fspath(folder), f'$_{number}\udce9.png'))
        if number % 5:
            encoded = cv2.imencode('.png', np.full((9, 30 + number), 200, np.uint8))[1]
            with open(os.fsencode(paths[-1]), 'wb') as file:
                file.write(encoded.tobytes())
    embeddings = np.random.default_rng(0).normal(size=(24, 8))
    facts = RowFacts.of(labels, paths=paths, class_names=names)
    written = draw_embeddings(embeddings, facts, tmp_path / 'out', number=3, k=3)
    assert [os.path.basename(path) for path in written] == [f'{kind}.png' for kind in KINDS]
    assert all(cv2.imread(path).std() > 5 for path in written)


def test_queries_that_find_nothing_are_in_no_class_of_the_matrix(monkeypatch):
    drawn = []
    monkeypatch.setattr(embedding_drawings, 'draw_matrix', lambda values, rows, *_, **__: drawn.append((values, rows)))
    facts = RowFacts.of(LABELS, roles=[1, 1, 2, 1], groups=['x', 'y', 'z', 'z'])
    KINDS['confusions'](embedding_drawings.Drawing(SearchedRows.of(ROWS, facts), picture))
    ((values, rows),) = drawn
    # Both of class a find row 2; row 3, of class b, finds nothing.
    assert rows == ['a', 'b'] and values.tolist() == [[0, 1, 0], [0, 0, 0]]


def test_both_maps_are_of_one_projection(tmp_path, monkeypatch):
    projected, project = [], embedding_drawings.project
    monkeypatch.setattr(embedding_drawings, 'project', lambda *given: projected.append(given) or project(*given))
    draw_embeddings(ROWS, RowFacts.of(LABELS), tmp_path, ['map', 'picture_map'], picture)
    assert len(projected) == 1


def test_kinds_that_have_nothing_to_show_write_nothing(tmp_path):
    apart = np.repeat(np.eye(3), 2, axis=0)
    facts = RowFacts.of(np.repeat(['a', 'b', 'c'], 2))
    assert draw_embeddings(apart, facts, tmp_path, ['confusions', 'confused_pairs', 'map']) == [
        str(tmp_path / 'map.png')
    ]
    with pytest.raises(ValueError, match="no picture 'heat'; there are retrieval, worst_queries"):
        draw_embeddings(apart, facts, tmp_path, ['heat'])


def test_a_map_names_twelve_classes_and_counts_the_rest():
    points = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    names = np.array([f'class {number % 20}' for number in range(40)])
    drawn = draw_map(points, names, 'PCA', 'title', np.random.default_rng(0))
    assert drawn.shape == (700, 1000, 3) and len(np.unique(drawn.reshape(-1, 3), axis=0)) > 20


def test_tiles_fit_pictures_of_any_shape_and_texts_of_any_length():
    for shape in [(1, 1), (3, 500), (500, 3, 3), (40, 40, 1)]:
        assert tile(np.full(shape, 300), ['a' * 200], border=2).shape == (SIDE + 4 + 18, SIDE + 4, 3)
    assert tile(None, ['', '']).shape == (SIDE + 2 + 36, SIDE + 2, 3)
    cut = shortened('folder/of/a/class/with/a/long/name/0001', SIDE)
    assert cut.startswith('fold') and cut.endswith('0001') and '…' in cut


def test_files_that_are_no_pictures_are_none(tmp_path):
    (tmp_path / 'text.jpg').write_text('no picture')
    assert read_picture(str(tmp_path / 'text.jpg')) is None and read_picture(str(tmp_path / 'nowhere.jpg')) is None
    assert read_picture(str(tmp_path)) is None


def test_the_command_draws_a_file_of_embeddings(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from mmdml.cli.main import main

    monkeypatch.chdir(tmp_path)
    write_embeddings('test.npz', torch.from_numpy(ROWS), RowFacts.of(LABELS))
    arguments = ['draw', 'test.npz', '--out', 'out', '--kind', 'similarities', '--kind', 'retrieval']
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0 and done.stdout.split() == ['out/similarities.png', 'out/retrieval.png']
    done = CliRunner().invoke(main, [*arguments, '--kind', 'heat'])
    assert done.exit_code == 1 and done.stderr.startswith("error: there is no picture 'heat'")
    # Options that would be left without effect: paths that start from no folder, and a run, which is no file.
    write_embeddings(
        'whole.npz', torch.from_numpy(ROWS), RowFacts.of(LABELS, paths=[f'/{n}.png' for n in range(len(ROWS))])
    )
    done = CliRunner().invoke(main, ['draw', 'whole.npz', '--out', 'out', '--pictures', 'pictures'])
    assert done.exit_code == 1 and 'the paths in whole.npz are whole ones, such as /0.png' in done.stderr
    done = CliRunner().invoke(main, ['draw', 'whole.npz', '--out', 'out', '--kind', 'retrieval'])
    assert done.stderr == 'no picture could be read, such as /0.png\n'
    (tmp_path / 'recipe.py').touch()
    for option in ('--rows', '-k', '--clusters'):
        done = CliRunner().invoke(main, ['draw', '.', '--out', 'out', option, '3'])
        assert done.exit_code == 1 and done.stderr.startswith(f'error: {option} is for a file of embeddings')


@pytest.mark.parametrize('rows', [np.eye(4).astype('>f4'), np.eye(4) * 1e200, np.eye(4, dtype=np.longdouble)])
def test_numbers_of_all_kinds_are_drawn(rows):
    searched = SearchedRows.of(rows, RowFacts(np.array([0, 0, 1, 1]), np.zeros(4, np.int64), np.arange(4)))
    torch.testing.assert_close(searched.unit, torch.eye(4))
