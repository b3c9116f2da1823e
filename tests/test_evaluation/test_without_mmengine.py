"""The functions are for everyone: they import and run where there is no MMEngine."""

import importlib
import inspect
import subprocess
import sys

import pytest

import mmdml.evaluation

SCRIPT = """
import sys
# An import of what is None fails.
sys.modules['mmengine'] = None
import torch
import mmdml.evaluation
import mmdml.evaluation.functional as functional
x, labels = torch.eye(6).repeat(2, 1), list(range(6)) * 2
for scores in (functional.retrieval_scores, functional.sharded_retrieval_scores):
    assert scores(x, labels)['RP'] == 1
assert functional.clustering_scores(x, labels, metrics=('NMI', 'ARI')) == dict(NMI=1, ARI=1)
assert functional.verification_scores(x, labels)['EER'] == functional.threshold_consistency(x, labels)['OPIS'] == 0
assert functional.graded_ndcg(x, labels, functional.hierarchy_gains({i: (i,) for i in range(6)})) == 1
for name in functional.__all__:
    getattr(functional, name)
from mmdml.evaluation import retrieval_scores, parse_measures
try:
    mmdml.evaluation.RetrievalMetric
except ModuleNotFoundError as error:
    print(error)
"""


def test_functions_work_where_mmengine_cannot_be_imported(repo):
    done = subprocess.run([sys.executable, '-c', SCRIPT], cwd=repo, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'mmengine' in done.stdout


@pytest.mark.parametrize('home', ['functional', 'metrics', 'protocols'])
def test_evaluation_offers_what_its_packages_export(home):
    package = importlib.import_module(f'mmdml.evaluation.{home}')
    for name in package.__all__:
        assert getattr(mmdml.evaluation, name) is getattr(package, name)
        assert name in dir(mmdml.evaluation)


def test_a_name_that_is_not_there_is_an_attribute_error():
    assert inspect.isclass(mmdml.evaluation.RetrievalScoring)
    with pytest.raises(AttributeError, match="module 'mmdml.evaluation' has no attribute 'Retrieval'"):
        _ = mmdml.evaluation.Retrieval
