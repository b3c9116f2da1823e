"""Losses of pytorch-metric-learning by name: ``dict(type='pml.CircleLoss', ...)``."""

import importlib
import logging
from types import ModuleType
from typing import Any, ClassVar

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmdml.registry import MODELS, PartRegistry
from mmdml.structures import Mined, PairBatch, Pairs, Space, Triplets
from mmdml.utils.near_names import did_you_mean

from .base import Loss
from .checks import check_class_range

#: Take anchors, index tuples and references.
WITH_REFERENCES = frozenset(
    'AngularLoss CircleLoss ContrastiveLoss DynamicSoftMarginLoss GeneralizedLiftedStructureLoss IntraPairVarianceLoss '
    'LiftedStructureLoss MarginLoss MultiSimilarityLoss NTXentLoss SignalToNoiseRatioContrastiveLoss SupConLoss '
    'TripletMarginLoss TupletMarginLoss'.split()
)
#: Refuse references, or (NCA, threshold-consistent margin) take them for something else than the index tuples say.
ONE_BATCH = frozenset(
    'ArcFaceLoss CosFaceLoss FastAPLoss HistogramLoss InstanceLoss LargeMarginSoftmaxLoss NCALoss NPairsLoss '
    'NormalizedSoftmaxLoss P2SGradLoss PNPLoss ProxyAnchorLoss ProxyNCALoss RankedListLoss SmoothAPLoss SoftTripleLoss '
    'SphereFaceLoss SubCenterArcFaceLoss ThresholdConsistentMarginLoss'.split()
)
#: Fit neither, and why.
REFUSED_LOSSES = {
    'CrossBatchMemory': "a memory is a source of candidates here: sources=dict(memory=dict(type='CrossBatchMemory'))",
    'ManifoldLoss': 'it takes meta-classes in place of labels',
    'MultipleLosses': 'it wraps other losses; further terms stand beside a loss in the regularizers of the head',
    'SelfSupervisedLoss': 'it makes its own labels, while here they come from the data set',
    'VICRegLoss': 'it takes two views of each image in one order, and no labels',
}

#: Modules of what losses and miners take as arguments.
_HELPERS = ('distances', 'reducers', 'regularizers')
#: Arguments that must be tensors; configs have lists.
_TENSORS = ('weights',)


class PMLRegistry(PartRegistry):
    """Parts of pytorch-metric-learning, looked up when a config names one.

    Args:
        module: module of the package that has the parts, e.g. ``losses``.
        adapter: base class of the adapters; its ``pml_name`` is set to the name.
        refused: names that do not fit, with the reason.
    """

    def __init__(self, parent: PartRegistry, module: str, adapter: type, refused: dict[str, str]) -> None:
        super().__init__(parent.name, parent=parent, scope='pml')
        self.module = module
        self.adapter = adapter
        self.refused = refused

    def get(self, key: str) -> type | None:
        """Return the adapter of a part, a distance or reducer itself, None if the package has no such part.

        Raises:
            ValueError: for a part that does not fit, with the reason.
            ModuleNotFoundError: if the package is not installed.
        """
        name = key.rpartition('.')[2]
        if name in self.refused:
            raise ValueError(f'pml.{name} cannot be used here: {self.refused[name]}')
        if name not in self.adapter.names:
            helpers = _module_of_helper(name)
            return helpers and getattr(import_pml(helpers, name), name)
        import_pml(self.module, name)
        return type(name, (self.adapter,), {'pml_name': name, '__module__': self.adapter.__module__})

    def names(self) -> list[str]:
        """Names of the parts that fit, and of the helpers in their arguments."""
        return sorted({*self.adapter.names, *helper_names()})


def import_pml(module: str, name: str) -> ModuleType:
    """Import ``pytorch_metric_learning.{module}`` for a part.

    Raises:
        ModuleNotFoundError: if the package is not installed, with the command that installs it.
    """
    try:
        return importlib.import_module(f'pytorch_metric_learning.{module}')
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"pml.{name} needs pytorch-metric-learning: pip install 'mmdml[pml]'") from error


def build_pml(module: str, name: str, arguments: dict[str, Any]) -> nn.Module:
    """Build a part; arguments such as ``distance=dict(type='pml.LpDistance')`` are built, too."""
    return getattr(import_pml(module, name), name)(**_built(arguments))


def _built(arguments: dict[str, Any]) -> dict[str, Any]:
    """Build what arguments of a part describe by ``type``, and the members of those that hold several parts."""
    built = {}
    for key, value in arguments.items():
        if isinstance(value, dict) and 'type' in value:
            rest = {inner: value[inner] for inner in value if inner != 'type'}
            name = value['type'].rpartition('.')[2]
            built[key] = build_pml(_helper_named(name, key), name, rest)
        elif isinstance(value, dict):
            built[key] = _built(value)
        else:
            is_list = key in _TENSORS and isinstance(value, list | tuple)
            built[key] = torch.tensor(value, dtype=torch.float32) if is_list else value
    return built


def _helper_named(name: str, key: str) -> str:
    """Return the module of a distance, reducer or regularizer that an argument names.

    Raises:
        ValueError: if the package has none of that name, with near ones.
    """
    module = _module_of_helper(name)
    if module is None:
        near = did_you_mean(name, helper_names())
        raise ValueError(f'{key}: pytorch-metric-learning has no distance, reducer or regularizer {name!r}{near}')
    return module


def helper_names() -> list[str]:
    """Names of all distances, reducers and regularizers."""
    modules = (import_pml(each, each) for each in _HELPERS)
    return [name for module in modules for name, part in vars(module).items() if isinstance(part, type)]


def _module_of_helper(name: str) -> str | None:
    """Return the module of a distance, reducer or regularizer, None if the package has none of that name."""
    return next((each for each in _HELPERS if hasattr(import_pml(each, name), name)), None)


class PMLLoss(Loss):
    """A loss of pytorch-metric-learning 2.9.

    With references (:data:`WITH_REFERENCES`), candidates are the reference embeddings, and index tuples are made from
    the masks or from what was mined: left to itself, the package takes an anchor and its own copies for positives. A
    loss without references (:data:`ONE_BATCH`) gets all candidates as one labeled batch, sorted by class, in which
    every row is an anchor and copies of an image are positives; this is logged. What the package keeps outside of
    parameters, such as the histogram of ``DynamicSoftMarginLoss``, is not in checkpoints.

    Args:
        arguments: those of the loss; distances, reducers and regularizers as configs, e.g.
            ``distance=dict(type='pml.CosineSimilarity')``.

    Raises:
        ValueError: for an unknown distance, reducer or regularizer; in the forward pass, for another space than cosine,
            a label beyond ``num_classes``, weights of mined tuples, or, in a loss without references, for anything
            mined, targets, or a width other than ``embedding_size``.

    Config::

        loss=dict(type='pml.CircleLoss', m=0.4, gamma=80)
    """

    names: ClassVar[frozenset[str]] = WITH_REFERENCES | ONE_BATCH
    pml_name: ClassVar[str]

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.function = build_pml('losses', self.pml_name, arguments)
        self.num_classes = arguments.get('num_classes')
        self.embedding_size = arguments.get('embedding_size', arguments.get('descriptors_dim'))
        if self.pml_name in ONE_BATCH:
            text = 'takes no references: all candidates are one batch, and copies of an image are positives in it'
            print_log(f'pml.{self.pml_name} {text}', logger='current', level=logging.WARNING)

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss."""
        if type(pairs.space) is not Space:
            raise ValueError(f'pml.{self.pml_name} has a distance of its own, not {type(pairs.space).__name__}')
        if self.num_classes is not None:
            check_class_range(pairs.candidates.labels, self.num_classes, f'pml.{self.pml_name}')
        anchors, rows = pairs.anchors.embeddings.to(pairs.dtype), pairs.candidates.embeddings.to(pairs.dtype)
        with torch.autocast(rows.device.type, enabled=False):
            # A sum over no pair has no graph in the package.
            graph = 0 * (anchors.sum() + rows.sum())
            if self.pml_name in ONE_BATCH:
                return graph + self._of_batch(pairs, rows, mined)
            tuples = index_tuples(pairs, mined)
            if not any(len(index) for index in tuples):
                return graph
            return graph + self.function(anchors, pairs.anchors.labels, tuples, rows, pairs.candidates.labels)

    def _of_batch(self, pairs: PairBatch, rows: Tensor, mined: Mined | None) -> Tensor | float:
        name, labels = f'pml.{self.pml_name}', pairs.candidates.labels
        if mined is not None:
            raise ValueError(f'{name} cannot use mined {type(mined).__name__}; remove the miner of the head')
        if pairs.targets is not None:
            raise ValueError(f'{name} uses class labels and cannot use targets; remove the targets of the head')
        if self.embedding_size not in (None, rows.shape[1]):
            raise ValueError(f'{name} has embedding_size={self.embedding_size}, but rows have {rows.shape[1]} columns')
        if not len(labels):
            return 0.0
        order = labels.argsort(stable=True)
        value = self.function(rows[order], labels[order])
        # Without a pair of one class some take the mean of nothing.
        return value if len(labels.unique()) < len(labels) else value.nan_to_num()

    def extra_repr(self) -> str:
        return ''


def index_tuples(pairs: PairBatch, mined: Mined | None) -> tuple[Tensor, ...]:
    """``(anchor, positive, anchor, negative)`` indices of the package, for triplets ``(anchor, positive, negative)``.

    Tuples of rows that share an identity are left out.

    Raises:
        ValueError: for mined tuples with weights other than 1.
    """
    if isinstance(mined, Triplets):
        valid = pairs.positive_mask[mined.anchor, mined.positive] & pairs.negative_mask[mined.anchor, mined.negative]
        return tuple(index[valid] for index in mined)
    if mined is None:
        return *pairs.positive_mask.nonzero(as_tuple=True), *pairs.negative_mask.nonzero(as_tuple=True)
    if not isinstance(mined, Pairs):
        anchor, candidate = mined.nonzero(as_tuple=True)
        mined = Pairs(anchor, candidate, mined[anchor, candidate])
    anchor, candidate, weight = mined
    if weight is not None and not (weight == 1).all():
        raise ValueError('pytorch-metric-learning cannot use weights of mined pairs')
    positive, negative = (mask[anchor, candidate] for mask in (pairs.positive_mask, pairs.negative_mask))
    return anchor[positive], candidate[positive], anchor[negative], candidate[negative]


#: ``MODELS`` finds ``pml.*`` here.
PML_LOSSES = PMLRegistry(MODELS, 'losses', PMLLoss, REFUSED_LOSSES)
