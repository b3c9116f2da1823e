"""The same figures on an accelerator as on the CPU, on the machines that have one, and on the pretended accelerator."""

import pytest
import torch
from mmengine.device import get_device

from mmdml.evaluation.functional import retrieval_scores, sharded_retrieval_scores
from mmdml.evaluation.functional.measures import Measure
from mmdml.evaluation.functional.relevance import Relevance
from mmdml.evaluation.functional.top_ranks import find_number, ranks_by_top

ALL = ('Recall@K', 'MAP@R', 'RP', 'mAP', 'MRR', 'mAP@10')
PRESENT = {'cuda': torch.cuda.is_available(), 'mps': torch.backends.mps.is_available()}
if get_device() == 'pretended':
    PRESENT['pretended'] = True


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


@pytest.mark.parametrize('values', [1, 3, 40, 10**6])
def test_ranks_among_the_highest_scores_are_those_of_the_cpu_and_ties_too(device, values):
    """From one value, where all scores tie, to so many that none does; a query itself and junk count as nothing."""
    generator = torch.Generator().manual_seed(values)
    scores = torch.randint(0, values, (40, 640), generator=generator).float()
    labels, groups = torch.randint(0, 16, (640,), generator=generator), torch.arange(640) % 5
    rows, queries = torch.arange(640), torch.arange(40)
    measures = [Measure('within R', lambda found: found.ranks[:, 0], within_r=True)]

    def ranks(where):
        given = [side.to(where) for side in (scores, labels, rows, groups, queries)]
        moved, label, row, group, query = given
        relevance = Relevance(label[:40], label, (row[:40], row), (group[:40], group))
        number = find_number(measures, relevance, query)
        assert number is not None
        return ranks_by_top(moved, number, query, relevance, moved.new_zeros(40, 1), measures, None)

    expected, found = ranks('cpu'), ranks(device)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
    assert (found.optimistic < torch.inf).any()
    assert torch.equal(found.pessimistic, found.optimistic) == (values == 10**6)


def test_reduced_precision_of_products_is_off_and_then_as_it_was(device):
    rows, labels = clustered(torch.float32, 2.0)
    expected = retrieval_scores(rows, labels, metrics=ALL)
    torch.set_float32_matmul_precision('medium')
    try:
        assert retrieval_scores(rows, labels, metrics=ALL, device=device) == expected
        assert torch.get_float32_matmul_precision() == 'medium'
    finally:
        torch.set_float32_matmul_precision('highest')
