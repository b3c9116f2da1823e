"""No product of the evaluation is in TF32 or bf16, whatever training has set, and the settings come back."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmdml.evaluation.functional import (
    KReciprocalEncoding,
    PCAWhitening,
    alpha_query_expansion,
    retrieval_scores,
    sharded_retrieval_scores,
)
from mmdml.functional import exact_products as module

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 5
WHITENING = PCAWhitening.fit(X)

WORK = {
    'search': lambda: retrieval_scores(X, LABELS),
    'sharded': lambda: sharded_retrieval_scores(X, LABELS),
    're-ranked search': lambda: retrieval_scores(X, LABELS, reranking={}),
    'encoding': lambda: KReciprocalEncoding(X),
    'expansion': lambda: alpha_query_expansion(X),
    'whitening': lambda: WHITENING.transform(X),
}


def precision():
    """What products may be computed in now."""
    settings = [backend.fp32_precision for backend in module._BACKENDS]
    return settings or [torch.get_float32_matmul_precision()]


class Precisions(TorchDispatchMode):
    """Settings and types of all matrix products."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm):
            self.seen.add((*precision(), *(tensor.dtype for tensor in args)))
        return function(*args, **(kwargs or {}))


@pytest.fixture
def rough():
    """Products in bf16 where the device can."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('medium')
    yield precision()
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize('name', WORK)
def test_products_are_exact_whatever_training_has_set(rough, name):
    with torch.autocast('cpu', torch.bfloat16), Precisions() as products:
        WORK[name]()
    exact = ['ieee'] * len(module._BACKENDS) or ['highest']
    assert exact != rough
    # fp64 beside fp32: what fp32 cannot decide.
    types = {seen[len(exact) :] for seen in products.seen}
    assert {seen[: len(exact)] for seen in products.seen} == {tuple(exact)}
    assert types and types <= {(torch.float32,) * 2, (torch.float64,) * 2}
    assert precision() == rough


@pytest.mark.parametrize('scores', [retrieval_scores, sharded_retrieval_scores])
def test_settings_are_restored_after_an_error(rough, scores):
    def fail(done, total):
        raise ValueError(f'{done} of {total}')

    with pytest.raises(ValueError, match='2 of 2'):
        scores(torch.eye(2, 3), [0, 0], progress=fail)
    assert precision() == rough
    assert torch.get_float32_matmul_precision() == 'medium'
