"""Retrieval scores of a data set, as an MMEngine metric."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dist import all_gather, all_reduce, broadcast_object_list, get_world_size, is_main_process
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mmdml.evaluation.protocols import BOTH, GALLERY, QUERY, Protocol, RowFacts
from mmdml.evaluation.scoring import RetrievalScoring
from mmdml.registry import METRICS

# Rows that one rank sends at a time: bounds what an accelerator holds while parts are exchanged.
_ROWS_PER_MESSAGE = 65536


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


class _Collector:
    """One preallocated matrix by data-set index, so that a padded duplicate lands on its own row."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.embeddings = torch.empty(0, 0)
        # Columns: label, role, group. Rows that were never written have role -1.
        self.facts = torch.full((capacity, 3), -1, dtype=torch.int64)
        self.paths = [''] * capacity

    def put(self, index: Tensor, embeddings: Tensor, facts: Tensor, paths: Sequence[str]) -> None:
        if len(index) == 0:
            return
        needed = int(index.max()) + 1
        if needed > self.capacity:
            self._grow(max(needed, 2 * self.capacity))
        if self.embeddings.shape[1] == 0:
            self.embeddings = torch.empty(self.capacity, embeddings.shape[1])
        self.embeddings[index] = embeddings
        self.facts[index] = facts
        for row, path in zip(index.tolist(), paths, strict=True):
            self.paths[row] = path

    def seen(self) -> Tensor:
        """``(S,)`` indices of the rows that were written."""
        return (self.facts[:, 1] >= 0).nonzero().squeeze(1)

    def _grow(self, capacity: int) -> None:
        more = capacity - self.capacity
        width = self.embeddings.shape[1]
        if width:
            self.embeddings = torch.cat([self.embeddings, torch.empty(more, width)])
        self.facts = torch.cat([self.facts, torch.full((more, 3), -1, dtype=torch.int64)])
        self.paths += [''] * more
        self.capacity = capacity


@METRICS.register_module()
class RetrievalMetric(BaseMetric):
    """Recall@K, MAP@R and R-precision of a data set, in percent.

    A thin class around :class:`~mmdml.evaluation.scoring.RetrievalScoring`, and that around
    :func:`~mmdml.evaluation.functional.retrieval_scores`. By default roles decide who searches whom: without roles
    every image searches all the others; where some images are queries (role 1) and some gallery (role 2), the queries
    search the gallery, and images of role 0 are in both. An image never finds itself.

    Each sample brings ``embedding (D,)``, ``gt_label (1,)``, ``sample_idx``, and optionally ``role`` (0, 1, 2),
    ``img_path`` and the field that ``groups`` names. The matrix is allocated once if ``dataset_meta`` has
    ``num_images``, and grows otherwise; ``dataset_meta['part_sizes']`` tells ``PerPart`` the parts. On several ranks
    every rank sends its rows as tensors, and rank 0 scores.

    K-means takes longer than all else together: give ``clustering`` to ``test_evaluator`` only, not to the
    ``val_evaluator`` that scores every epoch. Whitening fitted on the gallery, query expansion and re-ranking let the
    test images help each other: name them beside the figures.

    Args:
        recall_at: the K of Recall@K.
        metrics: names known to ``retrieval_scores``.
        distance: 'cosine', 'dot' or 'euclidean'.
        ties: 'pessimistic' or 'optimistic'.
        no_positive: 'skip' or 'miss': what becomes of queries without a positive.
        backend: 'torch' or 'faiss'.
        block_size: queries scored at a time.
        device: where to score. Default: where the model's embeddings were.
        protocol: config of a protocol, who searches whom. Default: roles decide.
        groups: sample field with an integer, such as 'camera'; gallery images of the query's label and group are junk.
            Put it into the ``meta_keys`` of ``PackInputs``.
        clustering: options of ``clustering_scores``, such as ``dict(metrics=('NMI',), restarts=5)``. Default: none.
        whitening: ``dict(dim=128, fit='gallery')``, or ``fit`` a file of saved embeddings. Default: none.
        query_expansion: ``dict(k=10, alpha=3.0)``. Default: none.
        reranking: ``dict(k1=20, k2=6, weight=0.3)``. Default: none.
        prefix: of the keys, ``retrieval/Recall@1``.

    Raises:
        ValueError: if an option is unknown, out of range, or does not go with another.
        TypeError: if a dict of options has one that does not exist.

    Example:
        >>> val_evaluator = dict(type='RetrievalMetric', recall_at=(1, 2, 4, 8))
    """

    default_prefix = 'retrieval'

    def __init__(
        self,
        recall_at: Sequence[int] = (1, 2, 4, 8),
        metrics: Sequence[str] = ('Recall@K', 'MAP@R', 'RP'),
        distance: str = 'cosine',
        ties: str = 'pessimistic',
        no_positive: str = 'skip',
        backend: str = 'torch',
        block_size: int = 1024,
        device: str | torch.device | None = None,
        protocol: dict | Protocol | None = None,
        groups: str | None = None,
        clustering: dict[str, Any] | None = None,
        whitening: dict[str, Any] | None = None,
        query_expansion: dict[str, Any] | None = None,
        reranking: dict[str, Any] | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(prefix=prefix)
        self.scoring = RetrievalScoring(
            protocol,
            clustering=clustering,
            whitening=whitening,
            query_expansion=query_expansion,
            reranking=reranking,
            recall_at=recall_at,
            metrics=metrics,
            distance=distance,
            ties=ties,
            no_positive=no_positive,
            backend=backend,
            block_size=block_size,
        )
        self.device = device
        self.groups = groups
        self._seen_device: torch.device | None = None
        self._collector: _Collector | None = None
        self._matrix: ResultsMatrix | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Put the embeddings of a batch into their rows.

        Raises:
            KeyError: if a sample lacks a field.
            ValueError: if a data-set index is negative or a role unknown.
            TypeError: if a group is no integer.
        """
        if self._collector is None:
            self._matrix = None  # the last evaluation's; two at once would double the memory
            self._collector = _Collector(int((self.dataset_meta or {}).get('num_images', 0)))
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
        roles = [int(sample.get('role', BOTH)) for sample in data_samples]
        if int(index.min()) < 0:
            raise ValueError(f'sample_idx must be the index in the data set, got {int(index.min())}')
        if not {BOTH, QUERY, GALLERY}.issuperset(roles):
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
        collector = self._collector or _Collector(0)
        self._collector = None
        if get_world_size() > 1:
            _merge_ranks(collector)
        outcome: list[Any] = [None]
        if is_main_process():
            # An error must reach the other ranks too: they wait for the result.
            try:
                self._matrix = _complete(collector, size)
                if self.groups is None:
                    self._matrix = self._matrix._replace(groups=None)
                scores = self.compute_metrics(self._matrix)
                outcome = [{f'{self.prefix}/{name}': value for name, value in scores.items()}]
            except Exception as error:
                # What is sent must survive pickling, which not every exception does.
                outcome = [error if type(error) is ValueError else RuntimeError(f'{type(error).__name__}: {error}')]
        broadcast_object_list(outcome)
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    def compute_metrics(self, results: ResultsMatrix) -> dict[str, float]:
        """Percentages by name, without prefix."""
        facts = RowFacts.of(
            results.labels, results.roles, groups=results.groups, parts=self._parts(len(results.labels))
        )
        scores = self.scoring(results.embeddings, facts, self.device or self._seen_device)
        return {name: 100 * value for name, value in scores.items()}

    def _parts(self, size: int) -> np.ndarray | None:
        """``(N,)`` number of the part of each image, if the data set tells."""
        sizes = (self.dataset_meta or {}).get('part_sizes')
        if sizes is None:
            return None
        if sum(sizes) != size:
            raise ValueError(f'the parts of the data set have {list(sizes)} images, together not {size}')
        return np.repeat(np.arange(len(sizes)), sizes)

    def results_matrix(self) -> ResultsMatrix:
        """What the last evaluation scored; on rank 0 only, until the next one begins.

        Raises:
            RuntimeError: if there is none.
        """
        if self._matrix is None:
            raise RuntimeError('no results: call evaluate() first, and ask on rank 0')
        return self._matrix


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


def _complete(collector: _Collector, size: int) -> ResultsMatrix:
    """Rows 0 to ``size - 1``, all there and finite."""
    seen = collector.seen()
    if len(seen) and int(seen[-1]) >= size:
        raise ValueError(f'sample_idx {int(seen[-1])} lies outside the data set of {size} images')
    if len(seen) < size:
        missing = np.setdiff1d(np.arange(size), seen.numpy())
        raise ValueError(
            f'{len(missing)} of {size} images have no embedding; the first are {missing[:5].tolist()}. '
            'Does sample_idx run over the whole data set?'
        )
    embeddings = collector.embeddings[:size]
    bad = (~torch.isfinite(embeddings).all(1)).nonzero().squeeze(1).tolist()
    if bad:
        first = ', '.join(f'{row} ({collector.paths[row]})' for row in bad[:5])
        raise ValueError(f'the embeddings of {len(bad)} of {size} images are not finite (NaN or inf): {first}')
    labels, roles, groups = (column.clone() for column in collector.facts[:size].unbind(1))
    return ResultsMatrix(embeddings, labels, roles, collector.paths[:size], groups)


def _merge_ranks(collector: _Collector) -> None:
    """Write the rows of all ranks into rank 0's collector, as three tensors per message."""
    index = collector.seen()
    paths = np.array([collector.paths[row].encode() for row in index.tolist()], dtype=np.bytes_)
    extent = torch.tensor([len(index), collector.embeddings.shape[1], paths.dtype.itemsize])
    all_reduce(extent, op='max')
    longest, width, path_width = extent.tolist()
    paths = paths.astype(f'S{path_width}').view(np.uint8).reshape(len(index), path_width)

    for start in range(0, longest, _ROWS_PER_MESSAGE):
        rows = min(longest - start, _ROWS_PER_MESSAGE)
        part = index[start : start + rows]
        # Index -1 marks the padding that makes all ranks' messages equally long.
        own_facts = torch.full((rows, 4), -1, dtype=torch.int64)
        own_embeddings = torch.zeros(rows, width)
        own_paths = torch.zeros(rows, path_width, dtype=torch.uint8)
        if len(part):
            own_facts[: len(part)] = torch.cat([part[:, None], collector.facts[part]], 1)
            own_embeddings[: len(part)] = collector.embeddings[part]
            own_paths[: len(part)] = torch.from_numpy(paths[start : start + rows])
        messages = (all_gather(own_facts), all_gather(own_embeddings), all_gather(own_paths))
        if is_main_process():
            for facts, embeddings, names in zip(*messages, strict=True):
                used = facts[:, 0] >= 0
                texts = names[used].numpy().view(f'S{path_width}').reshape(-1)
                collector.put(facts[used, 0], embeddings[used], facts[used, 1:], [text.decode() for text in texts])
