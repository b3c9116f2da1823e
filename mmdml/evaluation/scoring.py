"""Scores of a whole test set: who searches whom, what is done before the search, and clustering."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdml.dist import is_main_process, on_main_process
from mmdml.functional.inputs import to_matrix
from mmdml.functional.query_expansion import alpha_query_expansion
from mmdml.structures.row_facts import RowFacts
from mmdml.utils.progress import LogProgress

from .functional.clustering import clustering_scores
from .functional.options import SearchOptions
from .functional.retrieval import retrieval_scores
from .functional.sharded import sharded_retrieval_scores
from .protocols import Protocol, Split, build_protocol, by_roles
from .side_whitening import SideWhitening

Scores = dict[str, float]


class RetrievalScoring:
    """Every score of a test set, as fractions; what :class:`RetrievalMetric` and ``eval_embeddings.py`` share.

    For each search of the protocol: whitening, then query expansion, then the search with its scores, over re-ranked
    distances if asked for. Scores of several draws become their mean and standard deviation (of a sample, divisor
    ``draws - 1``, as 'Recall@1_std'). Clustering scores are of the embeddings as they come, over all images of a
    search, queries and gallery together; draws of the same images are clustered once.

    Options are tried on four rows at once, so that a wrong one ends a run before it begins.

    Args:
        protocol: config or protocol. Default: roles decide, see :func:`mmdml.evaluation.protocols.by_roles`.
        clustering: options of :func:`~mmdml.evaluation.functional.clustering.clustering_scores`, an empty dict for its
            defaults. None: no clustering.
        whitening: ``dim`` and ``eps`` of :meth:`PCAWhitening.fit`, and ``fit``: 'gallery' (of each search, with
            leave-one-out all its images: the scores are then transductive), or an ``.npz``, ``.npy`` or ``.parquet``
            file of embeddings, those of the training images best. Cosine: of unit vectors. None: none.
        query_expansion: ``k`` and ``alpha`` of
            :func:`~mmdml.functional.query_expansion.alpha_query_expansion`, for the cosine only. Where the
            queries search each other all of them move, so also the gallery. None: none.
        options: of every search. Default: those of :class:`SearchOptions`.
        settings: single options by name, such as ``metrics`` or ``reranking``; they go before ``options``.

    Raises:
        ValueError: if a setting is out of range, unknown, or does not go with another.
        TypeError: if there is no option of that name.
    """

    def __init__(
        self,
        protocol: dict | Protocol | None = None,
        *,
        clustering: dict[str, Any] | None = None,
        whitening: dict[str, Any] | None = None,
        query_expansion: dict[str, Any] | None = None,
        options: SearchOptions | None = None,
        **settings: Any,
    ) -> None:
        self.protocol = build_protocol(protocol)
        self.options = SearchOptions.of(options, settings)
        self.clustering = clustering
        self.query_expansion = query_expansion

        # Two near rows of each of two classes: nothing ties.
        rows, labels = torch.eye(4) + torch.eye(4)[[1, 0, 3, 2]] / 2, [0, 0, 1, 1]
        retrieval_scores(rows, labels, options=self.options)
        if clustering is not None:
            clustering_scores(rows, labels, **{**clustering, 'num_clusters': 2})
        if query_expansion is not None:
            if self.options.distance != 'cosine':
                raise ValueError(f"query expansion is made for distance='cosine', got {self.options.distance!r}")
            alpha_query_expansion(rows, **query_expansion)
        self.whitening = None if whitening is None else SideWhitening(self.options.distance, **whitening)

    def description(self, facts: RowFacts) -> str:
        """What is done to these images, on one line: distance, protocol, and what is more than the plain search."""
        if self.protocol is by_roles:
            searches = 'queries search the gallery' if facts.roles.any() else 'every image searches all others'
        else:
            searches = type(self.protocol).__name__
        parts = [f'{self.options.distance}, {searches}']
        if self.options.ties != 'pessimistic' or self.options.no_positive != 'skip':
            parts.append(f'ties {self.options.ties}, no positive: {self.options.no_positive}')
        whitening = None if self.whitening is None else self.whitening.settings | dict(fit=self.whitening.fit)
        steps = dict(whitening=whitening, query_expansion=self.query_expansion, reranking=self.options.reranking)
        for name, given in steps.items():
            if given is not None:
                values = ' '.join(f'{key}={value}' for key, value in given.items()) or 'defaults'
                parts.append(f'{name.replace("_", " ")} ({values})')
        if self.query_expansion is not None or self.options.reranking is not None or self._fits_on_gallery:
            parts.append('transductive: test images help each other, not to be compared with plain figures')
        return '; '.join(parts)

    @property
    def _fits_on_gallery(self) -> bool:
        return self.whitening is not None and self.whitening.fitted is None

    @property
    def works_on_shards(self) -> bool:
        """Whether :meth:`on_shards` can do what is asked for.

        It cannot compare gallery rows of two ranks with each other, and searches with matrix products only.
        """
        compares = self.clustering is not None or self.query_expansion is not None or self.options.reranking is not None
        return not (self._fits_on_gallery or compares) and self.options.backend == 'torch'

    def __call__(
        self, embeddings: Tensor | np.ndarray, facts: RowFacts, device: str | torch.device | None = None
    ) -> Scores:
        """Scores by name, with the prefixes of the protocol.

        Args:
            embeddings: ``(N, D)``.
            facts: of the same N images.
            device: where to search. Default: where the embeddings are.

        Raises:
            ValueError: if the protocol or its scores cannot be had of these images.
        """
        embeddings = to_matrix('embeddings', embeddings, None)
        search = partial(retrieval_scores, device=device, options=self.options)
        draws: dict[str, list[Scores]] = {}
        clusters: dict[str, Scores] = {}
        for split in self.protocol(facts):
            draws.setdefault(split.prefix, []).append(self._search(search, embeddings, facts, split, device))
            if self.clustering is not None and split.prefix not in clusters:
                clusters[split.prefix] = self._cluster(embeddings, facts, split)
        return self._summary(draws, clusters)

    def on_shards(
        self, embeddings: Tensor, rows: np.ndarray, facts: RowFacts, device: str | torch.device | None = None
    ) -> Scores:
        """Scores of embeddings that are spread over the ranks, on every rank those of all; all ranks must call it.

        Rank 0 asks the protocol, so that no draw can differ between the ranks; each rank searches with its part of
        every split, see :func:`~mmdml.evaluation.functional.sharded_retrieval_scores`.

        Args:
            embeddings: ``(n, D)`` of this rank; ``(0, D)`` if it has none.
            rows: ``(n,)`` which of the N images they are of. Every image must be on one rank.
            facts: of all N images.
            device: where to search. Default: where the embeddings are.

        Raises:
            ValueError: on all ranks, as a call does, or if an option needs all rows at one place.
        """
        if not self.works_on_shards:
            raise ValueError(
                're-ranking, query expansion, whitening fitted on the gallery, clustering and faiss need all rows at '
                'one place: gather them, and call the scoring itself'
            )
        search = partial(sharded_retrieval_scores, device=device, options=self.options)
        own = facts.take(rows)
        place = np.full(len(facts), -1)
        place[rows] = np.arange(len(rows))
        draws: dict[str, list[Scores]] = {}
        for query, gallery, prefix in on_main_process(lambda: list(self.protocol(facts))):
            query, gallery = (None if side is None else place[side][place[side] >= 0] for side in (query, gallery))
            split = Split(query, gallery, prefix)
            draws.setdefault(prefix, []).append(self._search(search, embeddings, own, split, device))
        return self._summary(draws, {})

    def _summary(self, draws: dict[str, list[Scores]], clusters: dict[str, Scores]) -> Scores:
        """Scores by prefixed name, from those of every draw and the clustering scores by prefix."""
        if not draws:
            raise ValueError(f'the protocol {self.protocol} has no search')
        scores: Scores = {}
        for prefix, tables in draws.items():
            found = _mean_and_std(tables) | clusters.get(prefix, {})
            scores |= {prefix + name: value for name, value in found.items()}
        return scores

    def _search(
        self,
        search: Callable[..., Scores],
        embeddings: Tensor,
        facts: RowFacts,
        split: Split,
        device: str | torch.device | None,
    ) -> Scores:
        query = _take(embeddings, split.query)
        gallery = None if split.gallery is None else _take(embeddings, split.gallery)
        keys = _keys('query', facts, split.query)
        if split.gallery is not None:
            keys |= _keys('gallery', facts, split.gallery)
        if self.whitening is not None:
            query, gallery = self.whitening(query, gallery)
        if self.query_expansion is not None:
            ids = {name: values for name, values in keys.items() if name.endswith('_ids')}
            query = alpha_query_expansion(query, gallery, device=device, **ids, **self.query_expansion)
        # A progress of its own: each search starts at nought.
        progress = LogProgress() if is_main_process() else None
        return search(query, gallery=gallery, progress=progress, **keys)

    def _cluster(self, embeddings: Tensor, facts: RowFacts, split: Split) -> Scores:
        rows = split.query if split.gallery is None else np.union1d(split.query, split.gallery)
        return clustering_scores(_take(embeddings, rows), facts.labels[rows], **self.clustering)


def _take(embeddings: Tensor, rows: np.ndarray) -> Tensor:
    # All rows in order need no copy.
    if len(rows) == len(embeddings) and (rows == np.arange(len(rows))).all():
        return embeddings
    return embeddings[torch.from_numpy(rows)]


def _keys(side: str, facts: RowFacts, rows: np.ndarray) -> dict[str, np.ndarray]:
    known = dict(labels=facts.labels, ids=facts.ids, groups=facts.groups)
    return {f'{side}_{name}': values[rows] for name, values in known.items() if values is not None}


def _mean_and_std(draws: Sequence[Scores]) -> Scores:
    rows = np.array([list(draw.values()) for draw in draws])
    scores = dict(zip(draws[0], rows.mean(0).tolist(), strict=True))
    if len(draws) > 1:
        deviations = rows.std(0, ddof=1).tolist()
        scores |= {f'{name}_std': value for name, value in zip(draws[0], deviations, strict=True)}
    return scores
