"""mmdml/evaluation/functional/options.py: one list of options for functions, metric and command."""

import json

import pytest
import torch

from mmdml.evaluation import (
    RetrievalMetric,
    RetrievalScoring,
    SearchOptions,
    retrieval_scores,
    sharded_retrieval_scores,
)

X, LABELS = torch.eye(6).repeat(2, 1), list(range(6)) * 2
EVERYWHERE = [
    lambda **options: retrieval_scores(X, LABELS, **options),
    lambda **options: sharded_retrieval_scores(X, LABELS, **options),
    RetrievalScoring,
    RetrievalMetric,
    lambda **options: SearchOptions.of(None, options),
]


@pytest.mark.parametrize('use', EVERYWHERE)
@pytest.mark.parametrize(
    'options, kind, words',
    [
        (dict(recal_at=(1,)), TypeError, "there is no option 'recal_at'.*did you mean 'recall_at'"),
        (dict(distance='cosin'), ValueError, "unknown distance 'cosin'.*did you mean 'cosine'"),
        (dict(metrics=('MAP@r',)), ValueError, r"unknown metrics \['MAP@r'\].*did you mean 'MAP@R'"),
        (dict(metrics=('Recal@K',)), ValueError, "did you mean 'Recall@K'"),
        (dict(block_size=0), ValueError, 'block_size must be at least 1, got 0'),
        (dict(block_size='many'), TypeError, "block_size must be an integer, got 'many'"),
        (dict(recall_at=(0,)), ValueError, r'recall_at must hold positive integers, got \(0,\)'),
        (dict(recall_at=('one',)), TypeError, r"recall_at must hold integers, got \('one',\)"),
    ],
)
def test_every_user_of_the_options_refuses_a_wrong_one_alike(use, options, kind, words):
    with pytest.raises(kind, match=words):
        use(**options)


def test_single_settings_go_before_a_set_of_options():
    options = SearchOptions(recall_at=(3,), metrics=('Recall@K',))
    assert list(retrieval_scores(X, LABELS, options=options)) == ['Recall@3']
    assert list(retrieval_scores(X, LABELS, options=options, recall_at=(2,))) == ['Recall@2']
    assert list(sharded_retrieval_scores(X, LABELS, options=options)) == ['Recall@3']
    assert RetrievalScoring(options=options, distance='dot').options == SearchOptions(
        recall_at=(3,), metrics=('Recall@K',), distance='dot'
    )


def test_lists_and_tuples_are_the_same_options_and_a_single_k_is_a_list_of_one():
    assert SearchOptions(recall_at=[1, 5], metrics=['RP']) == SearchOptions(recall_at=(1, 5), metrics=('RP',))
    assert SearchOptions(recall_at=5) == SearchOptions(recall_at=(5,))


def test_options_can_be_written_to_json_and_read_back():
    options = SearchOptions(recall_at=(1, 5), reranking=dict(k1=5))
    assert SearchOptions(**json.loads(json.dumps(options.as_dict()))) == options


@pytest.mark.parametrize('metric', ['mAP', 'MRR'])
def test_faiss_and_a_measure_of_all_ranks_are_refused_before_any_search(metric):
    with pytest.raises(ValueError, match=f"{metric}.*faiss finds the nearest only: use backend='torch'"):
        SearchOptions(metrics=(metric,), backend='faiss')


def test_reranking_is_refused_for_shards_and_for_faiss():
    with pytest.raises(ValueError, match='need all rows at one place'):
        sharded_retrieval_scores(X, LABELS, reranking={})
    with pytest.raises(ValueError, match="re-ranking needs backend='torch', got 'faiss'"):
        SearchOptions(reranking={}, backend='faiss')
    with pytest.raises(TypeError, match='reranking must be a dict of settings, got True'):
        SearchOptions(reranking=True)
