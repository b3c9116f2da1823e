"""One hook sets the context of a step; others choose the learner and receive the rows."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmpretrain.structures import DataSample

from mmdml.engine.hooks import StepContextHook
from mmdml.engine.hooks.step_context_hook import require_division
from mmdml.models import ImageEmbedder


class Chooser(Hook):
    """Chooses the learner of a step."""

    def learner_of_step(self, runner, batch_idx, data_batch):
        return None if batch_idx == 0 else batch_idx - 1


class Receiver(Hook):
    """Keeps the rows of each step."""

    def __init__(self):
        self.rows = []

    def receive_rows(self, rows):
        self.rows.append(rows)


class Loader(list):
    """Ten batches of two."""

    batch_size, sampler = 2, SimpleNamespace(batch_size=2)


def runner_with(*hooks):
    model = ImageEmbedder(
        backbone=dict(type='Conv4', channels=4),
        neck=dict(type='DivideAndConquerEmbedding', in_channels=4, embed_dim=4, num_learners=2),
        head=dict(type='DivideAndConquerHead', loss=dict(type='ContrastiveLoss')),
    )
    model.neck.divide(2)
    runner = SimpleNamespace(
        model=model, hooks=list(hooks), iter=7, max_iters=100, seed=3, train_dataloader=Loader(range(10))
    )
    hook = StepContextHook()
    hook.before_train(runner)
    return runner, hook


def test_a_step_has_position_and_learner_and_its_rows_reach_the_receivers():
    receiver = Receiver()
    runner, hook = runner_with(Chooser(), receiver)
    for batch, learner in ((0, None), (2, 1)):
        hook.before_train_iter(runner, batch)
        step = runner.model.step
        assert (step.progress.iter, step.progress.seed, step.learner_index) == (7, 3, learner)
    assert step.learner.scale.tolist() == [0, 0, 1, 1] and step.learner.of == 2
    runner.model(torch.randn(2, 1, 28, 28), [DataSample().set_gt_label(0)] * 2, mode='loss')
    (rows,) = receiver.rows
    assert rows.embeddings.shape == (2, 4) and not rows.embeddings.requires_grad
    hook.after_train(runner)
    assert runner.model.step is None


def test_a_step_without_providers_trains_the_whole_embedding():
    runner, hook = runner_with(Hook())
    hook.before_train_iter(runner, 4)
    assert runner.model.step.learner is None and runner.model.step.receivers == ()


def test_a_neck_without_learners_needs_no_hook_that_divides():
    for model in (torch.nn.Linear(1, 1), SimpleNamespace(neck=torch.nn.Linear(1, 1))):
        require_division(model, [])


def test_two_hooks_that_choose_the_learner_are_refused():
    with pytest.raises(ValueError, match=r"one hook chooses the learner of a step, got \['Chooser', 'Chooser'\]"):
        runner_with(Chooser(), Chooser())


def test_learners_without_a_hook_that_divides_the_images_are_refused():
    neck = dict(type='DivideAndConquerEmbedding', in_channels=4, embed_dim=4, num_learners=2)
    model = ImageEmbedder(backbone=dict(type='Conv4', channels=4), neck=neck)
    runner = SimpleNamespace(model=model, hooks=[], iter=0, max_iters=100, seed=3, train_dataloader=Loader(range(10)))
    with pytest.raises(ValueError, match=r"num_learners is 2, but no hook .* custom_hooks needs .*'DivisionHook'"):
        StepContextHook().before_train(runner)
    model.neck.divide(2)  # divided weights may be trained on as the merged embedding
    StepContextHook().before_train(runner)
