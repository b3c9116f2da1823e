"""Hard clusters: each class against the class nearest to it."""

import torch

from mmdml.models.losses.checks import check_cosine_space, check_label_targets
from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Triplets

from .base import Miner


@TASK_UTILS.register_module()
class HardClusterMiner(Miner):
    """One triplet a class: its center, its farthest row, and the center of the nearest other class.

    The hard clusters of person re-identification (Alex et al., arXiv 1812.10325), as open-metric-learning and Catalyst
    have them. There a center is the mean of a class's rows; a miner names rows, so it is the row nearest to that mean,
    an anchor for the class itself. The nearest class is that of the nearest mean. Means are over the candidates, so
    remembered and synthetic rows take part.

    Raises:
        ValueError: when mining, if the pairs have another space than cosine or targets that differ from the labels.

    Config::

        miner=dict(type='HardClusterMiner')
    """

    def __call__(self, pairs: PairBatch) -> Triplets:
        """At most one triplet per class, index tensors ``(T,)``."""
        check_cosine_space(pairs, 'HardClusterMiner')
        check_label_targets(pairs, 'HardClusterMiner')
        rows = pairs.candidates.embeddings.to(pairs.dtype)
        anchors = pairs.anchors.embeddings.to(pairs.dtype)
        every = torch.cat([pairs.candidates.labels, pairs.anchors.labels])
        classes, code = every.unique(return_inverse=True)
        own, of_anchor = code[: len(rows)], code[len(rows) :]
        number = own.new_zeros(len(classes)).index_add(0, own, torch.ones_like(own))
        if len(classes) < 2 or not len(rows) or not len(anchors):
            return Triplets.none(rows.device)
        sums = rows.new_zeros(len(classes), rows.shape[1]).index_add(0, own, rows)
        means = sums / number.clamp_min(1)[:, None]
        apart = torch.cdist(means, means).fill_diagonal_(float('inf')).masked_fill(number == 0, float('inf'))
        nearest = apart.argmin(1)

        number = torch.arange(len(classes), device=rows.device)
        is_own = of_anchor[None, :] == number[:, None]
        anchor = torch.cdist(means, anchors).masked_fill(~is_own, float('inf')).argmin(1)
        to_mean = torch.cdist(means, rows)
        positives = pairs.positive_mask[anchor]
        negatives = pairs.negative_mask[anchor] & (own[None, :] == nearest[:, None])
        positive = to_mean.masked_fill(~positives, float('-inf')).argmax(1)
        negative = to_mean[nearest].masked_fill(~negatives, float('inf')).argmin(1)
        kept = (is_own.any(1) & positives.any(1) & negatives.any(1)).nonzero().squeeze(1)
        return Triplets(anchor[kept], positive[kept], negative[kept])
