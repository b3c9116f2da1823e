"""Neighbors and classes of pictures from a store."""

import cv2
import numpy as np
import pytest

from mmdml.apis import ImageEmbeddingInferencer, ImageRetrievalInferencer, get_model, update_gallery
from mmdml.apis.retrieval_inferencer import Match, _vote
from mmdml.index import Item, LocalStore


def inferencer(channels=8):
    sizes = dict(backbone=dict(channels=channels), neck=dict(in_channels=channels, embed_dim=6))
    model = get_model('ms_conv4_omniglot', False, **sizes)
    pipeline = [dict(type='LoadImageFromFile', color_type='grayscale'), dict(type='mmpretrain.PackInputs')]
    return ImageEmbeddingInferencer(model, pipeline=pipeline, device='cpu', progress=False, workers=2)


@pytest.fixture(scope='module')
def embed():
    return inferencer()


@pytest.fixture(scope='module')
def gallery(embed, pictures, tmp_path_factory):
    """Folder of a store of all pictures."""
    folder = tmp_path_factory.mktemp('gallery')
    with LocalStore.open(folder, embed.dimensions, embed.model_hash, write=True) as store:
        update_gallery(store, embed, pictures)
    return folder


def test_a_picture_of_the_gallery_finds_itself_first_then_what_a_full_product_says(embed, gallery, pictures):
    whole = embed(pictures)
    with ImageRetrievalInferencer(embed, gallery) as search:
        found = search(pictures, k=4)
        limited = search(whole.names[0], k=100, where={'label': 'class_1'})
    assert found.names == whole.names and found.unreadable == []
    products = whole.embeddings.astype(float) @ whole.embeddings.T.astype(float)
    for row, matches in enumerate(found.matches):
        assert matches[0].path == whole.names[row] and matches[0].score == pytest.approx(1, abs=1e-5)
        assert [match.score for match in matches] == pytest.approx(np.sort(products[row])[::-1][:4].tolist(), abs=1e-5)
        assert all(match.label == match.path.split('/')[-2] for match in matches)
    assert {match.label for match in limited.matches[0]} == {'class_1'} and len(limited.matches[0]) == 4


def test_arrays_search_and_unreadable_queries_are_kept_apart(embed, gallery, pictures):
    file = embed(pictures).names[5]
    with ImageRetrievalInferencer(embed, gallery) as search:
        found = search([cv2.imread(file), np.zeros(3), file], k=1)
    assert found.names == ['image 0', file] and [near[0].path for near in found.matches] == [file, file]
    assert [each.name for each in found.unreadable] == ['image 1']


def test_rows_like_a_row_leave_that_row_out(embed, gallery):
    with ImageRetrievalInferencer(embed, gallery) as search:
        near = search.similar(7, k=5)
        assert len(near) == 5 and 7 not in [match.id for match in near]
        assert near == sorted(near, key=lambda match: -match.score)
        with pytest.raises(ValueError, match='no row 999'):
            search.similar(999)


def directions(degrees):
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1)


@pytest.mark.parametrize(
    ('threshold', 'k', 'label', 'share'),
    [
        (0.5, 1, 'near', 1.0),
        (0.5, 3, 'far', 2 * np.cos(np.pi / 6) / (1 + 2 * np.cos(np.pi / 6))),  # 1.73 against 1
        (0.9, 3, 'near', 1.0),  # cos 30 degrees = 0.87 has no vote
        (0.5, 4, 'far', 2 * np.cos(np.pi / 6) / (1 + 2 * np.cos(np.pi / 6))),  # the fourth has no label
    ],
)
def test_neighbors_above_the_threshold_vote_with_their_scores(tmp_path, threshold, k, label, share):
    degrees_and_labels = [(0, 'near'), (30, 'far'), (-30, 'far'), (40, '')]
    with LocalStore.open(tmp_path, 2, 'planar', write=True) as store:
        degrees, labels = zip(*degrees_and_labels, strict=True)
        store.add(directions(degrees), [Item(f'{number}.jpg', each) for number, each in enumerate(labels)])
        found = store.search(directions([0]), k)
        rows = store.get(found.ids[0].tolist())
    matches = [
        Match(score, row.item.path, row.item.label, row.id)
        for score, row in zip(found.scores[0].tolist(), rows, strict=True)
    ]
    voted = _vote(matches, threshold)
    assert voted.label == label and voted.share == pytest.approx(share, abs=1e-6)


def test_pictures_are_classified_and_one_unlike_all_is_of_no_class(embed, gallery, pictures):
    with ImageRetrievalInferencer(embed, gallery) as search:
        own = search.classify(pictures, threshold=0.999, k=1)
        assert [each.label for each in own.classes] == [name.split('/')[-2] for name in own.names]
        nearest = search(np.full((28, 28), 255, np.uint8), k=1).matches[0][0].score
        assert nearest < 0.9999
        other = search.classify(np.full((28, 28), 255, np.uint8), threshold=(nearest + 1) / 2)
        assert other.classes[0].label is None and other.classes[0].matches == [] and other.classes[0].share == 0
        with pytest.raises(ValueError, match='threshold=0 must be above 0'):
            search.classify(pictures, threshold=0)


def test_mistakes_are_named_before_pictures_are_embedded(embed, gallery, tmp_path):
    with ImageRetrievalInferencer(embed, gallery) as search:
        for options, message in ((dict(k=0), 'k=0'), (dict(where={'class': 'a'}), "column 'class'")):
            with pytest.raises(ValueError, match=message):
                search(iter([1 / 3]), **options)  # no picture: embedding it would be a TypeError
    with pytest.raises(ValueError, match='another model or pre-processing'):
        ImageRetrievalInferencer(inferencer(), gallery)
    with pytest.raises(FileNotFoundError, match='there is no store in'):
        ImageRetrievalInferencer(embed, tmp_path)
    with pytest.raises(TypeError, match='its options already, got device'):
        ImageRetrievalInferencer(embed, gallery, device='cpu')


def test_no_cosine_is_beyond_one(embed, tmp_path):
    rows = np.random.default_rng(0).normal(size=(200, embed.dimensions)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    twice = np.concatenate([rows, rows])
    with LocalStore.open(tmp_path, embed.dimensions, embed.model_hash, write=True) as store:
        ids = store.add(twice, [Item(f'{row}.png', '', 1, str(row)) for row in range(len(twice))])
        assert store.search(rows, 1).scores.max() > 1
        search = ImageRetrievalInferencer(embed, store)
        assert max(search.similar(id, k=1)[0].score for id in ids[:200]) == 1
