"""Retrieval scores of a data set, as an MMEngine metric."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mmdml.dist import all_reduce, get_world_size, is_main_process, on_main_process
from mmdml.evaluation.protocols import Protocol
from mmdml.evaluation.scoring import RetrievalScoring
from mmdml.registry import METRICS
from mmdml.structures.row_facts import GALLERY, QUERY, QUERY_AND_GALLERY, RowFacts

from .collector import CollectedRows, Collector, facts_of_all, gather_rows, keep_own


class ResultsMatrix(NamedTuple):
    """What was collected, in data-set order.

    Attributes:
        embeddings: ``(N, D)`` float32 on the CPU.
        labels: ``(N,)`` int64.
        roles: ``(N,)`` int64: 0 query and gallery, 1 query, 2 gallery.
        paths: N image paths, '' where unknown.
        groups: ``(N,)`` int64, such as cameras; None if the metric has none.
    """

    embeddings: Tensor
    labels: Tensor
    roles: Tensor
    paths: list[str]
    groups: Tensor | None = None


@METRICS.register_module()
class RetrievalMetric(BaseMetric):
    """Recall@K, MAP@R and R-precision of a data set, in percent.

    A thin class around :class:`~mmdml.evaluation.scoring.RetrievalScoring`, and that around
    :func:`~mmdml.evaluation.functional.retrieval_scores`. By default roles decide who searches whom: without roles
    every image searches all the others; where some images are queries (role 1) and some gallery (role 2), the queries
    search the gallery, and images of role 0 are in both. An image never finds itself.

    Each sample brings ``embedding (D,)``, ``gt_label (1,)``, ``sample_idx``, and optionally ``role`` (0, 1, 2),
    ``img_path`` and the field that ``groups`` names. The matrix is allocated once if ``dataset_meta`` has
    ``num_images``, and grows otherwise; ``dataset_meta['part_sizes']`` tells ``PerPart`` the parts.

    On several ranks every rank keeps the embeddings that its model made, and
    :func:`~mmdml.evaluation.functional.sharded_retrieval_scores` scores them where they are; an image that the sampler
    gave to two ranks counts once. What compares gallery images with each other or searches by other means needs all
    embeddings at one place: with re-ranking, query expansion, whitening fitted on the gallery, clustering or
    ``backend='faiss'`` the ranks send them to rank 0, which scores. The figures are those of one process either way.

    K-means takes as long as one search, or as several: give ``clustering`` to ``test_evaluator`` only, not to the
    ``val_evaluator`` that scores every epoch. Whitening fitted on the gallery, query expansion and re-ranking let the
    test images help each other: name them beside the figures.

    Args:
        device: where to score. Default: where the model's embeddings were.
        protocol: config of a protocol, who searches whom. Default: roles decide.
        groups: sample field with an integer, such as 'camera'; gallery images of the query's label and group are junk.
            Put it into the ``meta_keys`` of ``PackInputs``.
        clustering: options of ``clustering_scores``, such as ``dict(metrics=('NMI',), restarts=5)``. Default: none.
        whitening: ``dict(dim=128, fit='gallery')``, or ``fit`` a file of saved embeddings. Default: none.
        query_expansion: ``dict(k=10, alpha=3.0)``. Default: none.
        prefix: of the keys, ``retrieval/Recall@1``.
        options: of :class:`~mmdml.evaluation.functional.SearchOptions`, such as ``recall_at``, ``metrics``,
            ``distance``, ``ties`` or ``reranking=dict(k1=20, k2=6, weight=0.3)``.

    Raises:
        ValueError: if an option is unknown, out of range, or does not go with another.
        TypeError: if a dict of options has one that does not exist.

    Example:
        >>> val_evaluator = dict(type='RetrievalMetric', recall_at=(1, 2, 4, 8))
    """

    default_prefix = 'retrieval'

    def __init__(
        self,
        *,
        device: str | torch.device | None = None,
        protocol: dict | Protocol | None = None,
        groups: str | None = None,
        clustering: dict[str, Any] | None = None,
        whitening: dict[str, Any] | None = None,
        query_expansion: dict[str, Any] | None = None,
        prefix: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(prefix=prefix)
        self.scoring = RetrievalScoring(
            protocol,
            clustering=clustering,
            whitening=whitening,
            query_expansion=query_expansion,
            **options,
        )
        self.device = device
        self.groups = groups
        self._seen_device: torch.device | None = None
        self._collector: Collector | None = None
        # Of the last evaluation, on this rank.
        self._rows: CollectedRows | None = None
        self._size = 0

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Take the embeddings of a batch.

        Raises:
            KeyError: if a sample lacks a field.
            ValueError: if a data-set index is negative, a role unknown, or embeddings have another width than before.
            TypeError: if a group is no integer.
        """
        if self._collector is None:
            self._rows = None  # the last evaluation's; two at once would double the memory
            images = int((self.dataset_meta or {}).get('num_images', 0))
            self._collector = Collector(-(-images // get_world_size()))
        embeddings = torch.stack([_field(sample, 'embedding') for sample in data_samples])
        self._seen_device = embeddings.device
        index = torch.tensor([int(_field(sample, 'sample_idx')) for sample in data_samples])
        # One transfer a batch: a label at a time would wait for the accelerator every time.
        labels = torch.cat([torch.as_tensor(_field(sample, 'gt_label')).reshape(1) for sample in data_samples]).cpu()
        if (self.dataset_meta or {}).get('has_roles') and 'role' not in data_samples[0]:
            raise KeyError(
                "the data set tells queries from gallery, but the samples do not carry 'role': "
                "end the pipeline with dict(type='mmpretrain.PackInputs', meta_keys=('sample_idx', 'img_path', 'role'))"
            )
        roles = [int(sample.get('role', QUERY_AND_GALLERY)) for sample in data_samples]
        if int(index.min()) < 0:
            raise ValueError(f'sample_idx must be the index in the data set, got {int(index.min())}')
        if not {QUERY_AND_GALLERY, QUERY, GALLERY}.issuperset(roles):
            raise ValueError(f'role must be 0 (both), 1 (query) or 2 (gallery), got {sorted(set(roles))}')
        paths = [str(sample.get('img_path', '')) for sample in data_samples]
        groups = [0] * len(roles) if self.groups is None else [_integer(sample, self.groups) for sample in data_samples]
        facts = torch.stack([labels.long(), torch.tensor(roles), torch.tensor(groups)], dim=1)
        self._collector.put(index, embeddings.detach().float().cpu(), facts, paths)

    def evaluate(self, size: int) -> dict[str, float]:
        """Scores of the whole data set, the same on all ranks.

        Args:
            size: number of images in the data set.

        Returns:
            Percentages by prefixed name.

        Raises:
            ValueError: if an image has no embedding, or one that is not finite, or no query has a positive.
        """
        collector = self._collector or Collector(0)
        self._collector = self._rows = None
        # From here on an error must reach all ranks: they wait for each other.
        rows = keep_own(collector.rows(), size)
        del collector  # rank 0 may soon hold all rows, and needs no others
        on_shards = get_world_size() > 1 and self.scoring.works_on_shards
        if not on_shards:
            rows = gather_rows(rows, size)
        self._rows, self._size = rows, size
        if on_shards:
            scores = self._compute_on_shards(rows)
        else:
            scores = on_main_process(lambda: self.compute_metrics(self._results()))
        return {f'{self.prefix}/{name}': value for name, value in scores.items()}

    def compute_metrics(self, results: ResultsMatrix) -> dict[str, float]:
        """Percentages by name, without prefix, of all images at one place."""
        facts = self._facts(results.labels, results.roles, results.groups)
        return _percent(self.scoring(results.embeddings, facts, self._where()))

    def _compute_on_shards(self, rows: CollectedRows) -> dict[str, float]:
        """The same of images that are spread over the ranks, on every rank."""
        facts = self._facts(*facts_of_all(rows, self._size).unbind(1))
        return _percent(self.scoring.on_shards(rows.embeddings, rows.index.numpy(), facts, self._where()))

    def _facts(self, labels: Tensor, roles: Tensor, groups: Tensor | None) -> RowFacts:
        """Of all images."""
        groups = None if self.groups is None else groups
        return RowFacts.of(labels, roles, groups=groups, parts=self._parts(len(labels)))

    def _where(self) -> str | torch.device | None:
        return self.device or self._seen_device

    def _parts(self, size: int) -> np.ndarray | None:
        """``(N,)`` number of the part of each image, if the data set tells."""
        sizes = (self.dataset_meta or {}).get('part_sizes')
        if sizes is None:
            return None
        if sum(sizes) != size:
            raise ValueError(f'the parts of the data set have {list(sizes)} images, together not {size}')
        return np.repeat(np.arange(len(sizes)), sizes)

    def results_matrix(self) -> ResultsMatrix | None:
        """What the last evaluation scored, until the next one begins: on rank 0, None on the others.

        All ranks must call it, as they send what they have to rank 0.

        Raises:
            RuntimeError: if there is none.
        """
        has_rows = torch.tensor(int(self._rows is not None))
        all_reduce(has_rows, 'MIN')
        if not has_rows:
            raise RuntimeError('no results: call evaluate() first')
        self._rows = gather_rows(self._rows, self._size)
        return self._results() if is_main_process() else None

    def _results(self) -> ResultsMatrix:
        """Of the rows of this rank, which are all."""
        labels, roles, groups = (column.clone() for column in self._rows.facts.unbind(1))
        return ResultsMatrix(
            self._rows.embeddings, labels, roles, self._rows.paths, None if self.groups is None else groups
        )


def _field(sample: dict, name: str) -> Any:
    if name not in sample:
        raise KeyError(f'RetrievalMetric needs {name!r} in every data sample, got {sorted(sample)}')
    return sample[name]


def _integer(sample: dict, name: str) -> int:
    value = _field(sample, name)
    if isinstance(value, Tensor):
        value = value.item()
    if not isinstance(value, (int, np.integer)):
        raise TypeError(f'groups={name!r} must name a field with integers, got {value!r}')
    return int(value)


def _percent(scores: dict[str, float]) -> dict[str, float]:
    return {name: 100 * value for name, value in scores.items()}
