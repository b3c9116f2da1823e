"""A toy of each kind for what cosine and class labels cannot say: two geometries and a set of several labels."""

import torch
from torch.nn.functional import normalize

from mmdml.registry import MODELS, TASK_UTILS
from mmdml.structures import Space


@TASK_UTILS.register_module()
class ToyEuclideanSpace(Space):
    """Minus the squared Euclidean distance of rows of any length."""

    def similarity(self, anchors, candidates):
        return -(anchors[:, None] - candidates[None, :]).square().sum(2)

    def distance(self, similarity, eps=1e-12):
        return (-similarity + eps).sqrt()


@TASK_UTILS.register_module()
class ToyPoincareBall(Space):
    """Minus the hyperbolic distance of points in the unit ball."""

    def similarity(self, anchors, candidates):
        squared = (anchors[:, None] - candidates[None, :]).square().sum(2)
        room = (1 - anchors.square().sum(1))[:, None] * (1 - candidates.square().sum(1))[None, :]
        # arcosh(1 + t) without its infinite slope at t = 0.
        t = 2 * squared / room + 1e-9
        return -torch.log1p(t + (t * (t + 2)).sqrt())

    def distance(self, similarity, eps=1e-12):
        return -similarity


@MODELS.register_module()
class ToyBallNeck(torch.nn.Module):
    """Points in the unit ball, 0.8 from its center at most."""

    embed_dim = 2

    def unit(self, raw, learner=None):
        return 0.8 * normalize(raw, dim=1) * raw.norm(dim=1, keepdim=True).tanh()


@TASK_UTILS.register_module()
class ToyLabelSets:
    """Each image of a data set has several labels; a pair is a positive by the share of labels in common."""

    def __init__(self, table):
        self.table = torch.tensor(table, dtype=torch.float32)

    def __call__(self, anchors, candidates):
        left, right = self.table[anchors.indices], self.table[candidates.indices]
        common = left @ right.t()
        return common / (left.sum(1)[:, None] + right.sum(1)[None, :] - common)
