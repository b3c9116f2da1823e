"""Ranks: one file, one way to fail together."""

import os

import pytest
import torch
import torch.distributed as torch_dist
from ranks import run_ranks

from mmdml import dist
from mmdml.structures import Rows


class Unportable(Exception):
    """Cannot be unpickled: its constructor takes two arguments."""

    def __init__(self, left, right):
        super().__init__(f'{left} and {right}')


class OwnError(Exception):
    """An error of another type than those of Python."""


def fail_with(error):
    def function():
        raise error

    return function


ERRORS = [ValueError('wrong value'), KeyError('missing'), OwnError('own'), Unportable(1, 2), ZeroDivisionError('zero')]


def test_in_a_single_process_an_error_passes_as_it_is():
    for error in ERRORS:
        with pytest.raises(type(error)) as caught:
            dist.on_main_process(fail_with(error))
        assert caught.value is error and caught.value.__cause__ is None
    assert dist.on_main_process(lambda: 5) == 5


def work(rank, folder, world_size):
    torch.set_num_threads(1)
    torch_dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=world_size)
    found = dict(rank=dist.get_rank(), world_size=dist.get_world_size(), main=dist.is_main_process())
    found['result'] = dist.on_main_process(lambda: dict(rank=dist.get_rank(), tensor=torch.arange(3)))
    found['errors'] = []
    for error in ERRORS:
        try:
            dist.on_main_process(fail_with(error))
        except Exception as caught:
            found['errors'].append((type(caught).__name__, str(caught), str(caught.__cause__)))
    try:
        dist.on_main_process(lambda: lambda: 'a function cannot be pickled')
    except Exception as caught:
        found['result that cannot be sent'] = type(caught).__name__
    found['uneven'] = dist.gather_uneven(torch.full((rank, 2), float(rank)))
    tensors = [torch.full((2, 2), float(rank)), torch.tensor([2.0 * rank])]
    dist.average(tensors)
    found['average'] = tensors
    torch.manual_seed(rank)
    found['seed'] = dist.shared_random_seed()
    # Two uses of one gathered tensor: what autograd passes back to one must be left alone for the other.
    rows = torch.ones(2, 3, requires_grad=True)
    gathered = dist.gather_rows(Rows.of_batch(rows, torch.zeros(2, dtype=torch.int64))).embeddings
    incoming = torch.arange(2.0 * world_size * 3).reshape(-1, 3)
    gathered.backward(incoming)
    found['gradient'], found['incoming'] = rows.grad, incoming
    for gather in (dist.gather_rows, dist.gather_detached):
        try:
            gather(Rows.of_batch(rows[rank:], torch.zeros(2 - rank, dtype=torch.int64)))
        except ValueError as error:
            found[gather.__name__] = str(error)
    torch.save(found, os.path.join(folder, f'{rank}.pth'))
    torch_dist.barrier()
    torch_dist.destroy_process_group()


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    run_ranks(work, str(folder), 2)
    return [torch.load(folder / f'{rank}.pth', weights_only=False) for rank in range(2)]


def test_every_rank_has_the_result_of_rank_0(ranks):
    for number, found in enumerate(ranks):
        assert (found['rank'], found['world_size'], found['main']) == (number, 2, number == 0)
        assert found['result']['rank'] == 0 and found['result']['tensor'].tolist() == [0, 1, 2]
        assert found['seed'] == ranks[0]['seed']


def test_an_error_on_rank_0_has_its_type_on_all_and_its_traceback_on_the_others(ranks):
    expected = [(type(error).__name__, str(error)) for error in ERRORS]
    assert [error[:2] for error in ranks[0]['errors']] == expected
    assert all(cause == 'None' for *_, cause in ranks[0]['errors'])
    expected[3] = ('RuntimeError', 'Unportable: 1 and 2')
    assert [error[:2] for error in ranks[1]['errors']] == expected
    for (*_, cause), error in zip(ranks[1]['errors'], ERRORS, strict=True):
        assert 'Traceback of rank 0' in cause and 'in function' in cause and type(error).__name__ in cause
    assert [found['result that cannot be sent'] for found in ranks][0] == ranks[1]['result that cannot be sent']


def test_rows_of_unequal_number_come_in_rank_order_and_averages_over_all(ranks):
    for found in ranks:
        assert found['uneven'].tolist() == [[1, 1]]
        assert [tensor.flatten().tolist() for tensor in found['average']] == [[0.5] * 4, [1.0]]


def test_gathering_leaves_the_gradient_that_autograd_passes_alone(ranks):
    for number, found in enumerate(ranks):
        assert torch.equal(found['incoming'], torch.arange(12.0).reshape(4, 3))
        assert torch.equal(found['gradient'], 2 * found['incoming'][2 * number : 2 * number + 2])


@pytest.mark.parametrize('name', ['gather_rows', 'gather_detached'])
def test_a_step_in_which_ranks_have_differently_many_rows_is_refused_on_all(name, ranks):
    for found in ranks:
        assert found[name].endswith('equally many rows in a step, which PKSampler guarantees, got [2, 1]')
