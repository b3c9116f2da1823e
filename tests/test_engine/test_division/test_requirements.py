"""Stages that divide nothing, or less than the config says."""

import pytest

from mmdml.engine.division import Stages, requirements


@pytest.fixture
def words(monkeypatch):
    """What is logged."""
    texts = []
    monkeypatch.setattr(requirements, 'print_log', lambda text, **_: texts.append(text))
    return texts


@pytest.mark.parametrize(
    'stages, interval, hierarchical, first',
    [(Stages(0, 0, 0), 2, False, 0), (Stages(3, 3, 3), 1, False, 3), (Stages(1, 3, 3), 2, True, 3)],
)
def test_a_run_that_never_divides_is_told_so(words, stages, interval, hierarchical, first):
    end = stages.fine_tune_from
    requirements.check_stages(stages, interval, hierarchical, 1, 6)  # the baseline of one learner
    assert not words
    requirements.check_stages(stages, interval, hierarchical, 4, 6)
    assert f'first division is due at epoch {first}, but fine_tune_from={end}' in words[0]


@pytest.mark.parametrize(
    'stages, hierarchical, max_epochs, expected',
    [
        (Stages(0, 6, 8), True, 10, []),  # 1, 2, 4 clusters from epochs 0, 2, 4
        (Stages(0, 4, 8), True, 10, ['only 2 of the 4 learners are in use when the divide stage ends']),
        (Stages(0, 6, 8), False, 8, []),
        (Stages(0, 0), False, 8, []),  # divides the batches, not the embedding
        (Stages(0, 80, 190), False, 8, ['divide_until=80 lies beyond the 8', 'fine_tune_from=190 lies beyond the 8']),
        (Stages(0, 80), True, 3, ['only 2 of the 4 learners', 'divide_until=80 lies beyond the 3 epochs of the run']),
    ],
)
def test_learners_and_stages_that_are_never_reached_are_named(words, stages, hierarchical, max_epochs, expected):
    requirements.check_stages(stages, 2, hierarchical, 4, max_epochs)
    assert len(words) == len(expected)
    assert all(part in text for part, text in zip(expected, words, strict=True))
