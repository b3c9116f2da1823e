"""Scores at every width: those of the cut embeddings, from one collection."""

import numpy as np
import pytest
import torch

from mmdml.evaluation.metrics import RetrievalMetric
from mmdml.evaluation.prefix_scoring import PrefixScoring
from mmdml.evaluation.scoring import RetrievalScoring
from mmdml.structures import RowFacts

LABELS = np.arange(40) % 8
X = torch.randn(40, 7, generator=torch.Generator().manual_seed(0))
FACTS = RowFacts.of(LABELS)


def test_prefixes_and_slices_score_as_embeddings_of_their_own():
    found = PrefixScoring(widths=(2, 4), slices=3)(X, FACTS)
    plain = RetrievalScoring()
    expected = plain(X, FACTS)
    columns = dict(width2=X[:, :2], width4=X[:, :4], slice0=X[:, :3], slice1=X[:, 3:5], slice2=X[:, 5:])
    for name, part in columns.items():
        expected |= {f'{name}/{key}': value for key, value in plain(part, FACTS).items()}
    assert found == expected and len({found[f'{name}/MAP@R'] for name in columns}) == 5


def test_the_metric_scores_them_from_one_pass():
    metric = RetrievalMetric(widths=3, recall_at=1, metrics=['Recall@K'])
    metric.dataset_meta = dict(num_images=40)
    for i in range(40):
        metric.process(None, [dict(embedding=X[i], gt_label=torch.tensor([LABELS[i]]), sample_idx=i)])
    expected = RetrievalScoring(recall_at=1, metrics=['Recall@K'])
    assert metric.evaluate(40) == pytest.approx(
        {
            'retrieval/Recall@1': 100 * expected(X, FACTS)['Recall@1'],
            'retrieval/width3/Recall@1': 100 * expected(X[:, :3], FACTS)['Recall@1'],
        }
    )


@pytest.mark.parametrize(
    'options, fault',
    [
        (dict(widths=(0,)), 'widths must be at least 1'),
        (dict(widths=[64.5]), r'widths and slices must be integers, got \[64.5\] and 0'),
        (dict(widths=64.0), 'widths and slices must be integers, got 64.0 and 0'),
        (dict(widths='64'), "widths and slices must be integers, got '64' and 0"),
        (dict(slices=2.5), r'widths and slices must be integers, got \(\) and 2.5'),
        (dict(widths=(8,)), 'widths needs 8 columns, but the embedding has 7'),
        (dict(slices=8), 'slices needs 8 columns, but the embedding has 7'),
        (dict(widths=(2,), distance='euclidean'), "compared by cosine, got distance='euclidean'"),
        (dict(widths=(2,), values_out='values.csv'), 'leave out widths and slices'),
        (dict(widths=(2, 4), whitening=dict(dim=3)), r'dim=3, which is more than the smallest of widths=\(2, 4\)'),
        (dict(slices=2, whitening=dict(dim=3, fit='x.npy')), "fits one width: set fit='gallery'"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(options, fault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save('x.npy', X)
    with pytest.raises(ValueError, match=fault):
        PrefixScoring(**options)(X, FACTS)
