"""Scores of a folder are by the distance that the model's embeddings are made for."""

import cv2
import numpy as np
import pytest

from mmdml.apis.embedding_inferencer import EmbeddedImages
from mmdml.cli.folder_scores import folder_scores

# Two classes, near the center and near the rim: by angle every picture is nearest to one of the other class.
POINTS = {'a/0.png': (0.1, 0.01), 'a/1.png': (0.0, 0.1), 'b/0.png': (0.9, 0.0), 'b/1.png': (0.89, 0.1)}


@pytest.fixture
def folder(tmp_path):
    for name in POINTS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), 100, np.uint8))
    return tmp_path


@pytest.mark.parametrize('length, recall', [(None, 100.0), (1.0, 0.0)])
def test_points_of_the_ball_are_compared_there_and_unit_vectors_by_cosine(folder, length, recall):
    def embed(paths):
        rows = np.array([POINTS[path.removeprefix(f'{folder}/')] for path in paths], np.float32)
        rows = rows if length is None else length * rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return EmbeddedImages(rows, list(paths), [])

    embed.model_hash = 'hash'
    assert folder_scores(embed, str(folder))['scores']['Recall@1'] == recall
