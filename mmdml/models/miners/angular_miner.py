"""Triplets of a large angle at the negative."""

import math

import torch
from torch import Tensor

from mmdml.models.losses.checks import check_cosine_space
from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Triplets
from mmdml.structures.checks import check_numbers

from .base import Miner
from .triplet_blocks import triplets_where


@TASK_UTILS.register_module()
class AngularMiner(Miner):
    r"""Triplets whose negative sees anchor and positive under a large angle.

    Wang et al., ICCV 2017 (angular loss), Eq. 3: with the center c of anchor and positive, the triplet is taken if

    .. math:: \arctan \frac{\lVert x_a - x_p \rVert}{2 \lVert x_n - x_c \rVert} > \alpha

    Equals ``AngularMiner`` of pytorch-metric-learning, without a cube of all triplets: of unit vectors
    :math:`\lVert x_n - x_c \rVert^2 = 1 - s_{an} - s_{pn} + (1 + s_{ap}) / 2`.

    Args:
        angle: :math:`\alpha` in degrees, in [0, 90).

    Raises:
        ValueError: if a setting is no number or out of range; when mining, if the pairs have another space than
            cosine.

    Config::

        miner=dict(type='AngularMiner', angle=20)
    """

    def __init__(self, angle: float = 20) -> None:
        check_numbers(angle=angle)
        if not 0 <= angle < 90:
            raise ValueError(f'angle must be in degrees in [0, 90), got {angle}')
        self.angle = angle

    def __call__(self, pairs: PairBatch) -> Triplets:
        """Triplets, index tensors ``(T,)``."""
        check_cosine_space(pairs, 'AngularMiner')
        similarity, rows = pairs.similarity, pairs.candidates.embeddings.to(pairs.dtype)
        bound = 4 * math.tan(math.radians(self.angle)) ** 2

        def is_wide(anchor: Tensor, positive: Tensor) -> Tensor:
            between = similarity[anchor, positive][:, None]
            with torch.autocast(rows.device.type, enabled=False):
                of_positive = rows[positive] @ rows.t()
            to_center = 1 - similarity[anchor] - of_positive + (1 + between) / 2
            return 2 - 2 * between > bound * to_center

        return triplets_where(pairs, is_wide)
