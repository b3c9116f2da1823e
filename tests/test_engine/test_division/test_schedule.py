"""Division schedule and stages."""

import pytest

from mmdml.engine.division import Stages, num_clusters_at


def test_clusters_double_every_interval_up_to_the_final_number():
    counts = [num_clusters_at(epoch, final=32, interval=2) for epoch in range(14)]
    assert counts == [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 32, 32]


@pytest.mark.parametrize('final', [1, 2, 8])
@pytest.mark.parametrize('interval', [1, 3])
def test_clusters_follow_the_formula(final, interval):
    for epoch in range(20):
        assert num_clusters_at(epoch, final, interval) == min(final, 2 ** (epoch // interval))


def test_an_interval_beyond_the_run_never_divides():
    assert {num_clusters_at(epoch, final=8, interval=100) for epoch in range(50)} == {1}


def test_a_very_late_epoch_costs_nothing():
    assert num_clusters_at(10**9, final=8, interval=1) == 8


@pytest.mark.parametrize(
    'arguments, message',
    [
        ((0, 6, 2), 'final must be a power of two, .* got 6'),
        ((0, 0, 2), 'final must be a power of two, .* got 0'),
        ((0, 8, 0), 'interval must be at least 1 epoch, got 0'),
        ((-1, 8, 2), 'epoch must not be negative, got -1'),
    ],
)
def test_impossible_schedules_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        num_clusters_at(*arguments)


def runs(stages, epochs):
    """First epoch of each stage that occurs, in order."""
    firsts = {}
    for epoch in range(epochs):
        firsts.setdefault(stages.at(epoch), epoch)
    return list(firsts.items())


def test_cvpr_preset_joins_at_80_and_fine_tunes_from_190_of_200():
    assert runs(Stages(0, 80, 190), 200) == [('divide', 0), ('joint', 80), ('fine_tune', 190)]


def test_tpami_preset_joins_at_80_of_180_and_never_fine_tunes():
    assert runs(Stages(0, 80), 180) == [('divide', 0), ('joint', 80)]


@pytest.mark.parametrize(
    'stages, expected',
    [
        (Stages(2, 5, 7), [('warm_up', 0), ('divide', 2), ('joint', 5), ('fine_tune', 7)]),
        (Stages(0, 6, 6), [('divide', 0), ('fine_tune', 6)]),
        (Stages(0, 0, 4), [('joint', 0), ('fine_tune', 4)]),
        (Stages(0, 4, 10), [('divide', 0), ('joint', 4)]),
        (Stages(3, 3), [('warm_up', 0), ('joint', 3)]),
        (Stages(0, 0, 0), [('fine_tune', 0)]),
    ],
)
def test_stages_follow_each_other_and_may_be_left_out(stages, expected):
    assert runs(stages, 10) == expected


@pytest.mark.parametrize('bounds', [(-1, 5, 7), (6, 5, 7), (0, 8, 7), (3, 0, None), (8, 0, 9)])
def test_stages_out_of_order_are_errors(bounds):
    with pytest.raises(ValueError, match=f'got warm_up={bounds[0]}, divide_until={bounds[1]}'):
        Stages(*bounds)


def test_a_negative_epoch_has_no_stage():
    with pytest.raises(ValueError, match='epoch must not be negative, got -1'):
        Stages(0, 80, 190).at(-1)
