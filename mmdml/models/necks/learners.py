"""How K learners share the D neurons of one embedding layer: disjoint slices (CVPR 2019) or masks (TPAMI 2021)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmdml.structures.partition import Partition
from mmdml.structures.rows import unit_length


class SliceLearners(nn.Module):
    """Learner k owns the rows ``S_k`` of the embedding layer (D&C, CVPR 2019, Sec. 3.2).

    Every slice has parameters of its own: a step that trains another learner leaves their gradient None, and the
    optimizer, weight decay included, leaves them alone. With one learner this is the plain layer.

    Args:
        layer: the whole embedding layer; its values are taken over.
        num_learners: K_f, final number of learners.
    """

    def __init__(self, layer: nn.Linear, num_learners: int) -> None:
        super().__init__()
        self.partition = Partition(layer.out_features, num_learners)
        # Layers, not bare parameters: what an optimizer's settings say about biases holds for these, too.
        self.slices = nn.ModuleList([_cut(layer, part) for part in self.partition.slices])

    def linear(self, features: Tensor, learner: int | None, active: int) -> Tensor:
        """``(B, C)`` -> raw ``(B, D)``; only the rows of ``learner`` get gradient, all of them for None."""
        each = len(self.partition) // active
        own = range(len(self.partition)) if learner is None else range(learner * each, (learner + 1) * each)
        rows = [(layer.weight, layer.bias) for layer in self.slices]
        rows = [row if part in own else (row[0].detach(), row[1].detach()) for part, row in enumerate(rows)]
        weights, biases = zip(*rows, strict=True)
        return F.linear(features, torch.cat(weights), torch.cat(biases))

    def unit(self, raw: Tensor, learner: int | None, active: int) -> Tensor:
        """Return the learner's unit slice ``(R, |S_k|)``, or the merged ``concat(e_k) / sqrt(K)``, ``(R, D)``."""
        groups = self.partition.merged(active)
        if learner is None:
            return groups.unit(raw)
        return unit_length(raw[:, groups.slices[learner]])

    def widths(self) -> list[int]:
        """``|S_k|`` of every slice."""
        return list(self.partition.sizes)

    def scale(self, learner: int, active: int) -> Tensor:
        """``(D,)``: 1 for the learner's neurons, 0 for the others."""
        scale = torch.zeros(self.partition.dim, device=self.slices[0].weight.device)
        scale[self.partition.merged(active).slices[learner]] = 1
        return scale

    def divide(self, active: int, target: int) -> list[nn.Parameter]:
        """Overwrite nothing: a slice is cut where its children's slices meet."""
        return []

    def diversity(self, active: int) -> Tensor:
        """0: disjoint slices are as diverse as possible."""
        return self.slices[0].weight.new_zeros(())


class MaskLearners(nn.Module):
    """Learner k weighs all neurons by ``relu(m_k)`` (D&C+, TPAMI 2021).

    Masks serve training only; evaluation and the joint stages use the unmasked embedding. While there is one learner
    its mask is not used, so that this is the plain layer.

    Args:
        layer: the whole embedding layer.
        num_learners: K_f, final number of learners.
        learned: train the masks, all ones at first; False: binary masks that cut the neurons into slices.
    """

    def __init__(self, layer: nn.Linear, num_learners: int, learned: bool = True) -> None:
        super().__init__()
        self.layer = layer
        self.partition = Partition(layer.out_features, num_learners)
        self.learned = learned
        ones = torch.ones(num_learners, layer.out_features)
        if learned:
            self.masks = nn.Parameter(ones)
        else:
            self.register_buffer('masks', ones)

    def linear(self, features: Tensor, learner: int | None, active: int) -> Tensor:
        """``(B, C)`` -> raw ``(B, D)``."""
        return self.layer(features)

    def unit(self, raw: Tensor, learner: int | None, active: int) -> Tensor:
        """``normalize(z * relu(m_k))``, or the plain unit embedding for None; ``(R, D)``."""
        if learner is None or active == 1:
            return unit_length(raw)
        return unit_length(raw * self.masks[learner].relu())

    def widths(self) -> list[int]:
        """Every learner has all D columns."""
        return [self.partition.dim] * len(self.partition)

    def scale(self, learner: int, active: int) -> Tensor:
        """``(D,)`` ``relu(m_k)``, without gradient."""
        return torch.ones_like(self.masks[0]) if active == 1 else self.masks[learner].detach().relu()

    @torch.no_grad()
    def divide(self, active: int, target: int) -> list[nn.Parameter]:
        """Start children from their parent's mask, which overwrites learned masks; fixed masks are cut anew."""
        each = target // active
        if self.learned:
            self.masks[:target] = self.masks[:active].repeat_interleave(each, 0)
            return [self.masks]
        self.masks.zero_()
        for learner, part in enumerate(self.partition.merged(target).slices):
            self.masks[learner, part] = 1
        return []

    def diversity(self, active: int) -> Tensor:
        """``R = 1 / (K (K - 1)) sum_{i != j} cos(relu(m_i), relu(m_j))`` in [0, 1], one matrix product; 0 for K = 1."""
        if active == 1:
            return self.masks.new_zeros(())
        unit = F.normalize(self.masks[:active].relu(), dim=1)
        return ((unit @ unit.t()).sum() - (unit * unit).sum()) / (active * (active - 1))


def _cut(layer: nn.Linear, part: slice) -> nn.Linear:
    """Return some rows of a layer as a layer of their own."""
    rows = layer.weight[part]
    own = nn.utils.skip_init(nn.Linear, rows.shape[1], rows.shape[0], device=rows.device)
    with torch.no_grad():
        own.weight.copy_(rows)
        own.bias.copy_(layer.bias[part])
    return own


#: Values of ``division``.
LEARNERS = {'slices': SliceLearners, 'masks': MaskLearners}
