"""What generators of candidates have in common."""

from abc import ABCMeta, abstractmethod

from mmengine.model import BaseModule
from torch import Tensor

from mmdml.structures import Rows, StepContext


class Generator(BaseModule, metaclass=ABCMeta):
    """Base of the sources that make synthetic candidates from the real rows of a step.

    Parameters of a generator, e.g. of a learned prior, train with the loss, whose gradient reaches them through the
    rows that :meth:`forward` returns, and with :meth:`own_loss`. Statistics of the whole training set come from a
    submodule, or the generator itself, that is an :class:`~mmdml.structures.EmbeddingSubscriber`. What a resumed run
    needs beside parameters and buffers is saved if there is ``run_state()`` and ``load_run_state(state)``.
    """

    @abstractmethod
    def forward(self, anchors: Rows, step: StepContext) -> Rows | None:
        """Make candidates.

        Args:
            anchors: real rows, raw.
            step: position of the run, and the active learner.

        Returns:
            Raw rows with labels, and the views of the anchors that each was made from: the two form no pair. None if
            there are none at this step.
        """

    def own_loss(self) -> Tensor | None:
        """Scalar that trains the generator itself, of the rows of the last :meth:`forward`; None: there is none.

        The head adds it and logs it as ``loss_{name}``.
        """

    def diagnostics(self) -> dict[str, float]:
        """Figures for the log, by name."""
        return {}
