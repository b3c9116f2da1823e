"""The moving average of the model, as a teacher of the model itself."""

from mmdml.engine.hooks.ema_hook import EMAHook
from mmdml.engine.model_of import model_of
from mmdml.registry import HOOKS
from mmdml.structures import TeacherReceiver


@HOOKS.register_module()
class MeanTeacherHook(EMAHook):
    """An :class:`EMAHook` whose averaged model also teaches the distillations that need a teacher.

    What that hook does holds: the average is what is evaluated, and what a checkpoint has as its weights; the student's
    are in ``ema_state_dict``, and a resumed run continues with both.

    Args:
        kwargs: those of ``EMAHook``: ``momentum`` (weight of the newest model, 0.0002 by default), ``begin_epoch`` and
            others.

    Raises:
        ValueError: before training, if no part of the model needs a teacher.

    Config::

        custom_hooks=[dict(type='MeanTeacherHook', momentum=0.001)]
    """

    def before_train(self, runner) -> None:
        super().before_train(runner)
        students = [part for part in model_of(runner).modules() if isinstance(part, TeacherReceiver)]
        if not students:
            raise ValueError(
                'MeanTeacherHook finds nothing to teach: the head needs '
                "distillations=dict(teacher=dict(type='MeanTeacher')), or use EMAHook"
            )
        for student in students:
            student.set_teacher(self.ema_model.module)
