"""What distillations share."""

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass

import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional as F

from mmdml.dist import gather_rows
from mmdml.models.necks import EmbeddingNeck
from mmdml.structures import Rows, StepContext


@dataclass
class EmbeddedBatch:
    """One batch on its way through the model.

    Attributes:
        rows: real rows of this rank, raw, ``(B, D)``.
        anchors: real rows that the loss scores: of all ranks if the head gathers, else the same.
        features: ``(B, C)`` pooled features of this rank, fp32 or better; None if the caller of the head has none.
        inputs: ``(B, ...)`` preprocessed images of this rank; None likewise.
        neck: normalizes.
        step: position of the run and active learner.
        gather: whether the head scores the rows of all ranks.
        autocast: type that the backbone computes in; None for that of its weights.
    """

    rows: Rows
    anchors: Rows
    features: Tensor | None
    inputs: Tensor | None
    neck: EmbeddingNeck
    step: StepContext | None
    gather: bool
    autocast: torch.dtype | None = None

    def gathered(self, matrix: Tensor) -> Tensor:
        """Join ``(B, E)`` of this rank with those of the other ranks, with gradient, if the head does so."""
        return gather_rows(self.rows.with_embeddings(matrix)).embeddings if self.gather else matrix

    def unit(self) -> Tensor:
        """``(R, D)`` anchors of length 1, as wide as the learner that the step trains."""
        return self.neck.unit(self.anchors.embeddings, self.step.learner_index if self.step else None)


class Distillation(BaseModule, metaclass=ABCMeta):
    """Terms beside the loss of a batch, called as ``distillation(batch: EmbeddedBatch)``, of which each has its weight.

    A distillation is part of the head, so that embedding and publishing do without it.
    """

    def bind(self, neck: EmbeddingNeck) -> None:
        """Check what depends on the neck; called once, when the model is built.

        Raises:
            ValueError: if it gives no unit vectors.
        """
        neck.require_sphere(type(self).__name__)

    @abstractmethod
    def forward(self, batch: EmbeddedBatch) -> dict[str, Tensor]:
        """Scalars by name, added to the loss."""


def similarity_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    r"""Compute how far the similarities of a batch are from those of a teacher.

    :math:`\frac{T^2}{R} \sum_i \mathrm{KL}\big(\sigma(S^t_i / T) \,\|\, \sigma(S^s_i / T)\big)` over the rows of both
    matrices of cosines, with the softmax :math:`\sigma` and without gradient into the teacher.

    Args:
        student: ``(R, D)`` unit vectors.
        teacher: ``(R, E)`` unit vectors of the same images, of any width.
        temperature: T.
    """
    teacher = teacher.detach()
    own = F.log_softmax(student @ student.t() / temperature, dim=1)
    target = F.log_softmax(teacher @ teacher.t() / temperature, dim=1)
    divergence = F.kl_div(own, target.to(own.dtype), reduction='sum', log_target=True)
    return divergence * temperature**2 / max(len(student), 1)
