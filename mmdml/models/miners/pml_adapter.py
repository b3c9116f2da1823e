"""Miners of pytorch-metric-learning by name: ``dict(type='pml.PairMarginMiner', ...)``."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from mmdml.models.losses.checks import check_label_targets
from mmdml.models.losses.pml_adapter import PMLRegistry, build_pml, index_tuples
from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Pairs, Space, Triplets

from .base import Miner

#: Decide on each tuple by itself, or draw it: tuples of rows that share an identity can be left out afterwards.
EACH_TUPLE = frozenset('AngularMiner DistanceWeightedMiner HDCMiner PairMarginMiner TripletMarginMiner'.split())
#: Compare the tuples of a row with each other, the anchor and its copies among them.
AMONG_TUPLES = frozenset('BatchEasyHardMiner BatchHardMiner MultiSimilarityMiner UniformHistogramMiner'.split())
#: Fit neither, and why.
REFUSED_MINERS = {
    'BaseMiner': 'it is abstract',
    'EmbeddingsAlreadyPackagedAsTriplets': 'it takes triplets from the order of rows, which means nothing here',
}


class PMLMiner(Miner):
    """A miner of pytorch-metric-learning 2.9.

    Candidates are its reference embeddings, and tuples of rows that share an identity are left out of what it returns.
    A miner that compares tuples with each other (:data:`AMONG_TUPLES`) would take the anchor itself and its copies into
    account, so it takes batches in which the anchors are all there is. Draws follow ``pairs.random``.

    Args:
        arguments: those of the miner; ``distance`` as a config.

    Raises:
        ValueError: when mining, for another space than cosine, targets that differ from the labels, or candidates
            beside the anchors where they do not fit.

    Config::

        miner=dict(type='pml.PairMarginMiner', pos_margin=0.2, neg_margin=0.8)
    """

    names: ClassVar[frozenset[str]] = EACH_TUPLE | AMONG_TUPLES
    pml_name: ClassVar[str]

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.function = build_pml('miners', self.pml_name, arguments)

    def __call__(self, pairs: PairBatch) -> Pairs | Triplets:
        """Mined pairs or triplets, as the miner returns them."""
        if type(pairs.space) is not Space:
            raise ValueError(f'pml.{self.pml_name} has a distance of its own, not {type(pairs.space).__name__}')
        if pairs.has_own_targets:
            check_label_targets(pairs, f'pml.{self.pml_name}')
        if not (pairs.positive_mask.any() and pairs.negative_mask.any()):
            return Triplets.none(pairs.anchors.embeddings.device)
        mined = self._seeded(pairs)
        if len(mined) == 4:
            mined = Pairs(torch.cat([mined[0], mined[2]]), torch.cat([mined[1], mined[3]]))
            return Pairs(*_joined(index_tuples(pairs, mined)))
        return Triplets(*index_tuples(pairs, Triplets(*mined)))

    def _seeded(self, pairs: PairBatch) -> tuple[Tensor, ...]:
        """Index tuples of the package, which draws from torch's global generators."""
        if pairs.random is None:
            return self._mine(pairs)
        device = pairs.anchors.embeddings.device
        seed = torch.randint(2**62, (1,), generator=pairs.random, device=pairs.random.device).item()
        with torch.random.fork_rng([device] if device.type == 'cuda' else []):
            torch.manual_seed(seed)
            return self._mine(pairs)

    def _mine(self, pairs: PairBatch) -> tuple[Tensor, ...]:
        anchors, rows = pairs.anchors, pairs.candidates
        embeddings = anchors.embeddings.to(pairs.dtype)
        if self.pml_name in AMONG_TUPLES:
            own = torch.eye(len(anchors), len(rows), dtype=torch.bool, device=embeddings.device)
            if len(anchors) != len(rows) or not torch.equal(pairs.excluded_mask, own):
                raise ValueError(
                    f'pml.{self.pml_name} compares the pairs of a row with each other and would take its copies for '
                    'positives: use a miner of mmdml, or remove what adds candidates (sources) or excludes pairs'
                )
            return self.function(embeddings, anchors.labels)
        if self.pml_name == 'HDCMiner':
            self.function.set_idx_externally(index_tuples(pairs, None), anchors.labels)
        return self.function(embeddings, anchors.labels, rows.embeddings.to(pairs.dtype), rows.labels)

    def __repr__(self) -> str:
        return f'pml.{self.pml_name}({", ".join(f"{key}={value!r}" for key, value in self.arguments.items())})'


def _joined(tuples: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """``(anchor, positive, anchor, negative)`` as anchors and candidates of one length."""
    return torch.cat([tuples[0], tuples[2]]), torch.cat([tuples[1], tuples[3]])


#: ``TASK_UTILS`` finds ``pml.*`` here.
PML_MINERS = PMLRegistry(TASK_UTILS, 'miners', PMLMiner, REFUSED_MINERS)
