"""Softmax losses against class proxies, which may be sharded over the ranks."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmdml.dist import gather_uneven, get_rank, get_world_size, shard
from mmdml.structures import PairBatch
from mmdml.utils.seeding import Stream, torch_generator

from .proxy_loss import ProxyLoss
from .sharded_softmax import cross_entropy_over_ranks, scale_gradient, sum_over_ranks

#: Classes whose proxies are drawn at once.
_BLOCK = 8192


class SoftmaxProxyLoss(ProxyLoss):
    r"""Base of losses that are the cross entropy of scaled cosines to all classes.

    With the cosine :math:`c_z` of a row to class z and the own class y,
    :math:`\operatorname{score} = -\ln \frac{e^{s f(c_y)}}{e^{s f(c_y)} + \sum_{z \neq y} e^{s c_z}}`. Subclasses set
    ``scale`` and may override :meth:`target_cosine` (f) and :meth:`class_cosines`.

    Sharded, each rank holds the proxies of a contiguous part of the classes: memory, optimizer state and work are
    divided by the number of ranks. The rows of all ranks meet each part, and the softmax is put together from its
    maximum and sum over the ranks. Value and gradients are those of one process. The proxies are drawn in blocks of
    classes, so that their first values do not depend on the number of ranks. A checkpoint holds all proxies and
    loads with any number of ranks, sharded or not.

    Args:
        num_classes: number C of training classes.
        embed_dim: width D of the embedding.
        proxies_per_class: proxies of a class.
        sharded: divide the proxies among the ranks, for 10^5 classes and more.

    Raises:
        ValueError: if there are fewer classes than ranks; see also :class:`ProxyLoss`.
    """

    scale: float

    def __init__(self, num_classes: int, embed_dim: int, proxies_per_class: int = 1, sharded: bool = False) -> None:
        if not sharded:
            super().__init__(num_classes, embed_dim, proxies_per_class)
            self.first_class, self.own_classes = 0, num_classes
        else:
            if num_classes < get_world_size():
                raise ValueError(f'num_classes={num_classes} cannot be sharded over {get_world_size()} ranks')
            start, stop = shard(num_classes, get_rank(), get_world_size())
            super().__init__(1, embed_dim, proxies_per_class)
            self.num_classes, self.first_class, self.own_classes = num_classes, start, stop - start
            # Each loss draws its own, and every rank the same, as both follow torch's generator.
            seed = int(torch.randint(2**62, (), device='cpu'))
            self.proxies = nn.Parameter(self._draw(seed, start, stop))
        self.sharded = sharded
        # A proxy between two classes may lie between two ranks.
        self.synthesizes_proxies = not sharded
        #: Parameters of which each rank has its own part, with the rows of the whole.
        self.sharded_parameters = {'proxies': num_classes * proxies_per_class} if sharded else {}
        self._whole: Tensor | None = None
        self.register_state_dict_post_hook(_put_whole_in)
        self.register_load_state_dict_pre_hook(_take_own_part)

    def class_cosines(self, cosine: Tensor) -> Tensor:
        """``(R, C * proxies_per_class)`` cosines to proxies -> ``(R, C)`` to classes, of all or a part of them."""
        return cosine

    def target_cosine(self, target: Tensor) -> Tensor:
        """Cosine to the own class, of any shape, with the margin of the loss."""
        return target

    def score(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """``(R, C')`` cosines and ``(R,)`` class ids -> ``(R,)``."""
        cosine = self.class_cosines(cosine)
        own = labels[:, None] - self.first_class
        if not self.sharded:
            found = cosine.gather(1, own)
            target = self.target_cosine(found)
            # Without a margin there is nothing to put in its place.
            cosine = cosine if target is found else cosine.scatter(1, own, target)
            return F.cross_entropy(self.scale * cosine, labels, reduction='none')
        inside = (own >= 0) & (own < self.own_classes)
        own = own.clamp(0, self.own_classes - 1)
        found = cosine.gather(1, own)
        cosine = cosine.scatter(1, own, torch.where(inside, self.target_cosine(found), found))
        return cross_entropy_over_ranks(self.scale * cosine, own.squeeze(1), inside.squeeze(1))

    def over_all_classes(self, value: Tensor) -> Tensor:
        """Sum of what each rank computes from its own proxies, whose gradient is the rank's own."""
        return sum_over_ranks(value) if self.sharded else value

    def forward(self, pairs: PairBatch, mined: None = None, unit_proxies: Tensor | None = None) -> Tensor:
        if self.sharded and get_world_size() > 1:
            rows = pairs.candidates
            rows = rows.with_embeddings(scale_gradient(rows.embeddings, get_world_size()))
            pairs = pairs.with_candidates(rows)
        return super().forward(pairs, mined, unit_proxies)

    def gather_shards(self) -> None:
        """Collect the proxies of all ranks for the next state dict, on the CPU; all ranks call it."""
        self._whole = gather_uneven(self.proxies.detach(), to='cpu') if self.sharded else None

    def drop_shards(self) -> None:
        """Free what :meth:`gather_shards` collected."""
        self._whole = None

    def own_rows(self, whole: Tensor) -> Tensor:
        """Rows of ``(C', ...)`` that belong to this rank."""
        start = self.first_class * self.proxies_per_class
        return whole[start : start + len(self.proxies)]

    def _draw(self, seed: int, start: int, stop: int) -> Tensor:
        """Draw unit proxies of the classes from start to stop, ``((stop - start) * proxies_per_class, D)``."""
        parts = []
        for block in range(start // _BLOCK, -(-stop // _BLOCK)):
            random = torch_generator(Stream.PROXIES, seed, block)
            drawn = torch.randn(_BLOCK, self.proxies_per_class, self.embed_dim, generator=random)
            first = block * _BLOCK
            parts.append(drawn[max(start - first, 0) : stop - first])
        return F.normalize(torch.cat(parts).flatten(0, 1), dim=1)


def _put_whole_in(module: SoftmaxProxyLoss, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
    if module._whole is not None:
        state[f'{prefix}proxies'] = module._whole


def _take_own_part(module: SoftmaxProxyLoss, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
    whole = state.get(f'{prefix}proxies')
    if module.sharded and whole is not None and len(whole) == module.num_classes * module.proxies_per_class:
        state[f'{prefix}proxies'] = module.own_rows(whole)
