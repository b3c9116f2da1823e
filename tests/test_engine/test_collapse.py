import math

import pytest

from mmdml.engine.collapse import chance_of_first_hit, describe_collapse, loss_is_stuck, too_few_to_tell


def test_chance_of_a_first_hit_by_hand():
    # 2 + 3 images: (2 * 1 + 3 * 2) / (5 * 4).
    chance, limit = chance_of_first_hit([0, 0, 1, 1, 1])
    assert chance == pytest.approx(0.4)
    assert limit == pytest.approx(0.4 + 3 * math.sqrt(0.4 * 0.6 / 5))
    assert chance_of_first_hit([1]) == (1.0, 1.0)


def test_a_loss_that_does_not_move():
    assert loss_is_stuck([0.7] * 20) and loss_is_stuck([3.0, 2.0] + [0.7] * 20)
    assert not loss_is_stuck([0.7] * 19)
    assert not loss_is_stuck([0.7 + 1e-4 * step for step in range(20)])
    assert not loss_is_stuck([float('nan')] * 20)


def test_a_collapse_is_told_in_one_line_with_causes():
    labels = [label for label in range(50) for _ in range(10)]
    line = describe_collapse(0.0, labels, [0.7] * 20, 1e6)
    assert 'Recall@1 0.00 is no better than chance (1.80) and the loss stands still at 0.7' in line
    assert 'optim_wrapper.optimizer.lr is 1e+06' in line and '\n' not in line
    assert describe_collapse(60.0, labels, [0.7, 0.6] * 10, 1e-3) == ''
    assert describe_collapse(None, None, [0.5] * 5, 1e-3) == ''
    # Nothing is left to learn: no collapse. At a score of chance a loss of 0 is one.
    assert describe_collapse(100.0, labels, [0.0] * 20, 1e-3) == ''
    assert 'the loss stands still at 0' in describe_collapse(1.0, labels, [0.0] * 20, 1e-3)


def test_few_images_tell_of_no_collapse():
    # Two classes of three: chance is 40, and three standard deviations above it are 100.
    few = [0, 0, 0, 1, 1, 1]
    assert too_few_to_tell(few) and not too_few_to_tell([label for label in range(5) for _ in range(10)])
    for recall in (100.0, 83.33, 0.0):
        assert describe_collapse(recall, few, [0.7, 0.6] * 10, 1e-3) == ''
    assert describe_collapse(100.0, few, [0.0] * 20, 1e-3) == ''
    line = describe_collapse(50.0, few, [0.7] * 20, 1e-3)
    assert 'the loss stands still at 0.7' in line and 'chance' not in line
