"""Targets of images with several labels."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from mmdml.registry import TASK_UTILS
from mmdml.structures.label_relations import SET_MEASURES, read_label_sets

from .base import ColumnTargets, column_of


@TASK_UTILS.register_module()
class LabelSetTargets(ColumnTargets):
    r"""What the label sets of two images have in common: multi-label and soft-label training.

    A cell of the column is ``cat|indoor``, or with weights ``cat=0.7|dog=0.3``. With weights a and b of two images,
    0 for labels that they do not have,

    .. math:: t_\text{jaccard} = \frac{\sum_l \min(a_l, b_l)}{\sum_l \max(a_l, b_l)}, \quad
        t_\text{any} = [\textstyle\sum_l a_l b_l > 0], \quad t_\text{product} = \min(1, \textstyle\sum_l a_l b_l)

    'any' gives 0 and 1 alone, which every loss over pairs can use; 'product' is the probability that both images are of
    one class where the weights are probabilities. The class of an image, ``gt_label``, decides which images make a
    batch, and nothing here.

    Args:
        column: of the training set. That of ``ImageList(separator='|')`` is 'labels'.
        measure: 'jaccard', 'any' or 'product'.

    Raises:
        ValueError: if ``measure`` is unknown; before training, if the training set lacks the column or a cell cannot be
            read.

    Config::

        head=dict(targets=dict(type='LabelSetTargets', column='labels', measure='jaccard'))
    """

    def __init__(self, column: str = 'labels', measure: str = 'jaccard') -> None:
        super().__init__()
        if measure not in SET_MEASURES:
            raise ValueError(f'measure must be one of {list(SET_MEASURES)}, got {measure!r}')
        self.column = column
        self.measure = measure

    def read_columns(self, labels: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        """Read the label set of each image."""
        self._sets = read_label_sets(column_of(columns, self.column, 'LabelSetTargets'), self.column)
        self._is_ready = True

    def between(self, left: Tensor, right: Tensor) -> Tensor:
        self._sets = sets = self._sets.to(left.device)
        return SET_MEASURES[self.measure](sets.dense(left), sets.dense(right))
