"""Cross-batch memory (XBM)."""

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import Progress, Rows, StepContext
from mmdml.structures.checks import check_numbers
from mmdml.utils.numbers import check_counts


@MODELS.register_module()
class CrossBatchMemory(BaseModule):
    """Embeddings of the latest batches as further candidates.

    Wang et al., *Cross-Batch Memory for Embedding Learning*, CVPR 2020: embeddings drift slowly, so those of earlier
    steps are nearly what the network would give now, and every anchor meets thousands of negatives. A queue holds the
    latest ``size`` raw rows, without a graph, of which the oldest are overwritten. A step sees the rows of earlier
    steps; its own are added behind it. Each learner of divide and conquer, and the whole embedding, has a queue of its
    own. All start anew when the number of learners or the width changes.

    Old rows of an anchor's own image are positives of it, as in the paper; ``exclude_same_image=True`` of the head
    leaves them out. The rows are those of all ranks, so all ranks hold the same queue; it is in the checkpoint, and a
    resumed run continues as the uninterrupted one.

    Args:
        size: rows of a queue, 1 or more: a multiple of the batch, at most about the images of the training set.
        start: training before the first row is kept, in epochs (int) or as a fraction of the run (float in [0, 1]).

    Raises:
        ValueError: for a value out of range; in a step, if several ranks do not gather their rows.

    Config::

        head=dict(sources=dict(memory=dict(type='CrossBatchMemory', size=8192, start=0.1)))
    """

    def __init__(self, size: int = 8192, start: int | float = 0.1) -> None:
        super().__init__()
        check_counts(size=size)
        check_numbers(start=start)
        if start < 0 or (isinstance(start, float) and start > 1):
            raise ValueError(f'start must be epochs (int >= 0) or a fraction of the run (float in [0, 1]), got {start}')
        self.size = size
        self.start = start
        self._queues: dict[int, _Queue] = {}
        # Of how many learners the queues are, 1 for the whole embedding; None where early checkpoints do not say.
        self._learners: int | None = 1
        self._ages: Tensor | None = None

    @torch.no_grad()
    def forward(self, anchors: Rows, step: StepContext) -> Rows | None:
        """Rows of earlier steps ``(<= size, D)``, None while there are none; then keep the anchors.

        Args:
            anchors: real rows, raw, of all ranks.
            step: position of the run, and the active learner.
        """
        progress = step.progress
        if progress.world_size > 1:
            raise ValueError('CrossBatchMemory must be equal on all ranks: set gather=True in the head')
        if progress.iter < self.first_step(progress):
            return None
        key, learners = (-1, 1) if step.learner is None else (step.learner.index, step.learner.of)
        if self._learners not in (None, learners):
            # Rows of another stage are of other learners, or of long ago.
            self._queues = {}
        self._learners = learners
        queue, width = self._queues.get(key), anchors.embeddings.shape[1]
        if queue is None or queue.columns['embeddings'].shape[1] != width:
            queue = self._queues[key] = _Queue.empty(self.size, width, anchors.embeddings.device)
        queue.to(anchors.embeddings.device)
        rows, born = queue.rows()
        self._ages = (progress.iter - born).float()
        queue.add(anchors, progress.iter)
        return rows if len(rows) else None

    def first_step(self, progress: Progress) -> int:
        """Return the iteration whose rows are the first that are kept."""
        return progress.iterations(self.start)

    def diagnostics(self) -> dict[str, float]:
        """``age`` and ``oldest``: mean and largest age of the rows, in iterations."""
        if self._ages is None or not len(self._ages):
            return {}
        return {'age': self._ages.mean().item(), 'oldest': self._ages.max().item()}

    def run_state(self) -> dict[str, Any]:
        """Queues by learner and the number of learners, plain tensors and numbers."""
        learners = {} if self._learners is None else {'learners': self._learners}
        return learners | {str(key): queue.state() for key, queue in self._queues.items()}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Continue with saved queues.

        Raises:
            ValueError: if they have another size.
        """
        self._queues, self._learners = {}, state.get('learners')
        for key, saved in state.items():
            if key == 'learners':
                continue
            rows = len(saved['labels'])
            if rows != self.size:
                raise ValueError(f'CrossBatchMemory has size={self.size}, but the checkpoint has queues of {rows} rows')
            self._queues[int(key)] = _Queue.of_state(saved)


class _Queue:
    """Ring of rows: columns of one length, how many are filled, and where the next row goes."""

    def __init__(self, columns: dict[str, Tensor], filled: int = 0, position: int = 0) -> None:
        self.columns = columns
        self.filled = filled
        self.position = position

    @classmethod
    def empty(cls, size: int, width: int, device: torch.device) -> '_Queue':
        numbers = {name: torch.zeros(size, dtype=torch.int64, device=device) for name in ('labels', 'indices', 'born')}
        return cls({'embeddings': torch.zeros(size, width, device=device), **numbers})

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> '_Queue':
        columns = {name: value.clone() for name, value in state.items() if isinstance(value, Tensor)}
        return cls(columns, state['filled'], state['position'])

    def state(self) -> dict[str, Any]:
        columns = {name: column.clone() for name, column in self.columns.items()}
        return {**columns, 'filled': self.filled, 'position': self.position}

    def to(self, device: torch.device) -> None:
        self.columns = {name: column.to(device) for name, column in self.columns.items()}

    def rows(self) -> tuple[Rows, Tensor]:
        """Return copies of the rows, which share no view with any other, and the iterations they are from."""
        columns = {name: column[: self.filled].clone() for name, column in self.columns.items()}
        born = columns.pop('born')
        return Rows(**columns, views=torch.full_like(born, -1)), born

    def add(self, rows: Rows, iteration: int) -> None:
        """Overwrite the oldest rows; of more rows than there are places the last stay."""
        size = len(self.columns['born'])
        rows = rows[max(len(rows) - size, 0) :]
        number = len(rows)
        places = (torch.arange(number, device=rows.labels.device) + self.position) % size
        values = dict(embeddings=rows.embeddings.float(), labels=rows.labels, indices=rows.indices)
        for name, value in values.items():
            self.columns[name][places] = value
        self.columns['born'][places] = iteration
        self.filled = min(self.filled + number, size)
        self.position = (self.position + number) % size
