"""The moving average of the model as a teacher."""

import torch
from torch import Tensor, nn

from mmdml.models.embedders.chunks import in_chunks
from mmdml.registry import MODELS
from mmdml.structures import Progress
from mmdml.structures.checks import check_numbers, check_positive

from .base import Distillation, EmbeddedBatch, similarity_divergence


def _embedding_distance(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return (student - teacher.detach()).square().sum() / max(len(student), 1)


#: What is compared: unit vectors by their squared distance, or the similarities of the batch by their divergence.
MATCHES = {'embedding': _embedding_distance, 'similarity': similarity_divergence}


@MODELS.register_module()
class MeanTeacher(Distillation):
    r"""Pull the embedding towards that of a teacher whose weights are the moving average of the student's.

    Tarvainen and Valpola, *Mean teachers are better role models*, NIPS 2017: the average over the last steps is a
    better model than the last one, and a steadier target. With unit embeddings u of the student and v of the teacher,
    of the same inputs,

    .. math:: L = \frac{w}{R} \sum_i \lVert u_i - v_i \rVert^2 \quad (\text{'embedding'}), \qquad
        L = w \, D(u, v) \quad (\text{'similarity'})

    with the divergence of :func:`~mmdml.models.distillations.base.similarity_divergence`. The teacher embeds in
    evaluation mode, without gradient, in the precision and in chunks of the student; it is the averaged model of
    ``MeanTeacherHook``, which the config must have in ``custom_hooks``.

    Args:
        weight: w, 0 or more.
        match: 'embedding' or 'similarity'.
        temperature: T of 'similarity'.
        start: training before the teacher is used, in epochs (int) or as a fraction of the run (float in [0, 1]).

    Raises:
        ValueError: for a value out of range.
        RuntimeError: in a step, without a teacher.

    Config::

        model=dict(head=dict(distillations=dict(teacher=dict(type='MeanTeacher', weight=1.0, match='similarity'))))
        custom_hooks=[dict(type='MeanTeacherHook', momentum=0.001)]
    """

    def __init__(
        self, weight: float = 1.0, match: str = 'similarity', temperature: float = 0.1, start: int | float = 1
    ) -> None:
        super().__init__()
        if match not in MATCHES:
            raise ValueError(f'match must be one of {list(MATCHES)}, got {match!r}')
        check_numbers(weight=weight, start=start)
        if weight < 0 or start < 0 or (isinstance(start, float) and start > 1):
            raise ValueError(f'weight and start must be 0 or more, a float start at most 1, got {weight} and {start}')
        check_positive(temperature=temperature)
        self.weight = weight
        self.match = match
        self.temperature = temperature
        self.start = start
        # In a list: the teacher is no part of the student, neither of its parameters nor of its weights.
        self._teacher: list[nn.Module] = []

    def set_teacher(self, teacher: nn.Module) -> None:
        """Use a model, in evaluation mode."""
        self._teacher = [teacher.eval()]

    def first_step(self, progress: Progress) -> int:
        """Return the iteration in which the teacher is used first."""
        return progress.iterations(self.start)

    def forward(self, batch: EmbeddedBatch) -> dict[str, Tensor]:
        """``distance``, a weighted scalar; nothing before ``start``."""
        progress = batch.step and batch.step.progress
        if progress is not None and progress.iter < self.first_step(progress):
            return {}
        if not self._teacher or batch.inputs is None:
            raise RuntimeError(
                "MeanTeacher has no teacher: custom_hooks needs dict(type='MeanTeacherHook')"
                if not self._teacher
                else 'MeanTeacher needs the inputs: call the head through ImageEmbedder'
            )
        (teacher,) = self._teacher
        device, size = batch.inputs.device.type, teacher.chunk_size or len(batch.inputs)
        with torch.no_grad():
            with torch.autocast(device, batch.autocast, enabled=batch.autocast is not None):
                raw = teacher.neck(in_chunks(teacher.extract_feat, batch.inputs, size, teacher))
            raw = raw.to(batch.rows.embeddings.dtype)
            target = batch.neck.unit(batch.gathered(raw), batch.step.learner_index if batch.step else None)
        distance = MATCHES[self.match](batch.unit(), target, self.temperature)
        return {'distance': self.weight * distance}
