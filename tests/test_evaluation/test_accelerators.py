"""The same figures on an accelerator as on the CPU, on the machines that have one."""

import pytest
import torch

from mmdml.evaluation.functional import retrieval_scores, sharded_retrieval_scores

ALL = ('Recall@K', 'MAP@R', 'RP', 'mAP', 'MRR', 'mAP@10')
PRESENT = {'cuda': torch.cuda.is_available(), 'mps': torch.backends.mps.is_available()}


@pytest.fixture(params=PRESENT)
def device(request):
    if not PRESENT[request.param]:
        pytest.skip(f'needs {request.param}, which this machine lacks')
    return request.param


def clustered(dtype, noise):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 60, (500,), generator=generator)
    rows = torch.randn(60, 32, generator=generator)[labels] + noise * torch.randn(500, 32, generator=generator)
    return rows.to(dtype), labels


@pytest.mark.parametrize('scores', [retrieval_scores, sharded_retrieval_scores])
def test_an_accelerator_gives_the_figures_of_the_cpu(device, scores):
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for noise in (1.0, 20.0):
            rows, labels = clustered(dtype, noise)
            for distance in ('cosine', 'dot', 'euclidean'):
                options = dict(metrics=ALL, distance=distance, block_size=97)
                # The products round differently, but the order is that of the exact scores.
                expected = scores(rows, labels, **options)
                assert scores(rows, labels, device=device, **options) == expected, (dtype, noise, distance)


def test_reduced_precision_of_products_is_off_and_then_as_it_was(device):
    rows, labels = clustered(torch.float32, 2.0)
    expected = retrieval_scores(rows, labels, metrics=ALL)
    torch.set_float32_matmul_precision('medium')
    try:
        assert retrieval_scores(rows, labels, metrics=ALL, device=device) == expected
        assert torch.get_float32_matmul_precision() == 'medium'
    finally:
        torch.set_float32_matmul_precision('highest')
