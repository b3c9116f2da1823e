"""Graded relevance by columns of the dataset: through the scoring, saved embeddings and the metric's fields."""

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from mmdml.evaluation.scoring import RetrievalScoring
from mmdml.functional.embedding_files import read_embeddings, write_embeddings
from mmdml.structures import RowFacts

LABELS = np.arange(20) % 6
COARSE = np.array(['odd', 'even'])[(LABELS + 1) % 2]
TAGS = np.array([f'{label % 2}|{label % 3}a' for label in LABELS])
X = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))


def gains_of(graded):
    if 'levels' in graded:
        return (COARSE[:, None] == COARSE) / 2 + (LABELS[:, None] == LABELS) / 2
    sets = [set(tags.split('|')) for tags in TAGS]
    return np.array([[len(a & b) / len(a | b) for b in sets] for a in sets])


@pytest.mark.parametrize('graded', [dict(levels='coarse'), dict(label_sets='tags')], ids=str)
def test_scores_equal_scikit_learn_with_and_without_roles(graded):
    unit = torch.nn.functional.normalize(X.double()).numpy()
    scores, gains = unit @ unit.T, gains_of(graded)
    scoring = RetrievalScoring(graded=dict(graded, k=[None, 3]))
    facts = RowFacts.of(LABELS, more=dict(coarse=COARSE, tags=TAGS))
    found = scoring(X, facts)
    for name, k in (('GradedNDCG', None), ('GradedNDCG@3', 3)):
        pairs = [[np.delete(side[i], i)[None] for side in (gains, scores)] for i in range(20)]
        assert found[name] == pytest.approx(np.mean([ndcg_score(*pair, k=k) for pair in pairs]), abs=1e-6)
    assert found['Recall@1'] == RetrievalScoring()(X, facts)['Recall@1']
    roles = np.repeat([1, 2], [8, 12])
    found = scoring(X, RowFacts.of(LABELS, roles, more=facts.more))['GradedNDCG']
    expected = np.mean([ndcg_score(gains[i : i + 1, 8:], scores[i : i + 1, 8:]) for i in range(8)])
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_file_of_embeddings_carries_the_columns(tmp_path):
    path = str(tmp_path / 'x.npz')
    facts = RowFacts.of(LABELS, more=dict(coarse=COARSE))
    write_embeddings(path, X, facts, columns=facts.more)
    saved = read_embeddings(path)
    scoring = RetrievalScoring(graded=dict(levels=['coarse']))
    assert saved.facts.more['coarse'].tolist() == COARSE.tolist()
    assert scoring(saved.embeddings, saved.facts) == scoring(X, facts)


def test_what_does_not_go_together_is_named():
    with pytest.raises(ValueError, match=r'either levels=\[...\] or label_sets='):
        RetrievalScoring(graded={})
    with pytest.raises(TypeError, match="graded has no setting 'level'.*did you mean 'levels'"):
        RetrievalScoring(graded=dict(level='coarse'))
    with pytest.raises(ValueError, match=r'k must be at least 1, or several such ranks, got \(\)'):
        RetrievalScoring(graded=dict(levels='coarse', k=()))
    with pytest.raises(ValueError, match='leave out reranking'):
        RetrievalScoring(graded=dict(levels='coarse'), reranking={})
    scoring = RetrievalScoring(graded=dict(levels='coarse'))
    with pytest.raises(ValueError, match=r"needs the column 'coarse' of the images, known are \['camera'\]"):
        scoring(X, RowFacts.of(LABELS, more=dict(camera=COARSE)))
    with pytest.raises(ValueError, match='counts no junk: leave out groups'):
        scoring(X, RowFacts.of(LABELS, groups=np.arange(20), more=dict(coarse=COARSE)))
    assert not scoring.works_on_shards
