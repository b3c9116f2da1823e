from mmengine.config import Config

from mmdml.engine.run_facts import never_reached


def unreached(epochs, updates, *schedulers):
    return never_reached(Config(dict(param_scheduler=list(schedulers))), epochs, updates)


def test_steps_behind_the_end_of_the_run_are_named():
    steps = dict(type='MultiStepLR', milestones=[3, 40, 60, 80])
    assert unreached(5, 85, steps) == ['milestones 40, 60, 80 of MultiStepLR (the run has 5 epochs)']
    assert unreached(5, 85, dict(steps, by_epoch=False)) == []
    assert unreached(81, 900, steps) == []


def test_schedulers_that_begin_or_end_behind_the_run_are_named():
    cosine = dict(type='CosineAnnealingLR', T_max=100, by_epoch=True)
    warm_up = dict(type='LinearLR', begin=0, end=1000, by_epoch=False)
    late = dict(type='ConstantLR', begin=10, end=20)
    assert unreached(5, 85, cosine, warm_up, late) == [
        'the end of CosineAnnealingLR at 100 (the run has 5 epochs)',
        'the end of LinearLR at 1000 (the run has 85 updates)',
        'ConstantLR, which begins at 10 (the run has 5 epochs)',
    ]
    assert never_reached(Config(dict()), 5, 5) == []
