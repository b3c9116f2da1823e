"""Scores of a whole test set: the searches of a protocol, what is done before them, and scores of the set."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdml.dist import is_main_process, on_main_process
from mmdml.functional.inputs import to_matrix
from mmdml.structures.row_facts import RowFacts
from mmdml.utils.near_names import check_settings
from mmdml.utils.progress import LogProgress

from .functional.options import SearchOptions
from .functional.query_values import QueryValues
from .functional.retrieval import retrieval_scores, retrieval_values
from .functional.sharded import sharded_retrieval_scores
from .graded_scores import GradedScores
from .preparation import Preparation
from .protocols import Protocol, Split, build_protocol, by_roles
from .set_scores import SetScores
from .split_rows import remark_on_one_class, rows_of, sides_of
from .value_tables import ValueTables

Scores = dict[str, float]


class RetrievalScoring:
    """Every score of a test set, as fractions; what :class:`RetrievalMetric` and ``eval_embeddings.py`` share.

    For each search of the protocol: whitening, then query expansion, then the search with its scores, over re-ranked
    distances if ``reranking`` is set. Scores of several draws become their mean and standard deviation (of a sample,
    divisor ``draws - 1``, as 'Recall@1_std'). Clustering, verification and consistency scores are of the embeddings as
    they come, over all images of a search, queries and gallery together; draws of the same images are scored once.

    Options are tried on four rows at once, so that a wrong one ends a run before it begins.

    Args:
        protocol: config or protocol. Default: roles decide, see :func:`mmdml.evaluation.protocols.by_roles`.
        clustering: options of :func:`~mmdml.evaluation.functional.clustering.clustering_scores`, an empty dict for its
            defaults. None: no clustering.
        verification: options of :func:`~mmdml.evaluation.functional.verification_scores`, such as
            ``dict(fpr=[1e-3])``. None: none.
        consistency: options of :func:`~mmdml.evaluation.functional.threshold_consistency`. None: none.
        graded: options of :class:`~mmdml.evaluation.graded_scores.GradedScores`; not with groups or re-ranking. None:
            none.
        whitening: ``dim`` and ``eps`` of :meth:`PCAWhitening.fit`, and ``fit``: 'gallery' (of each search, with
            leave-one-out all its images: the scores are then transductive), or an ``.npz``, ``.npy`` or ``.parquet``
            file of embeddings, those of the training images best. Cosine: of unit vectors. None: none.
        query_expansion: ``k`` and ``alpha`` of
            :func:`~mmdml.functional.query_expansion.alpha_query_expansion`, for the cosine only. Where the
            queries search each other all of them move, so also the gallery. None: none.
        values_out: .csv file for the values of every query and, beside it, the means of every class, see
            :class:`~mmdml.evaluation.value_tables.ValueTables`. None: none.
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
        verification: dict[str, Any] | None = None,
        consistency: dict[str, Any] | None = None,
        graded: dict[str, Any] | None = None,
        whitening: dict[str, Any] | None = None,
        query_expansion: dict[str, Any] | None = None,
        values_out: str | None = None,
        options: SearchOptions | None = None,
        **settings: Any,
    ) -> None:
        self.protocol = build_protocol(protocol)
        self.options = SearchOptions.of(options, settings)
        self.preparation = Preparation(self.options.distance, whitening, query_expansion)
        self.set_scores = SetScores(clustering, verification, consistency, self.options.distance)
        self.graded = None
        if graded is not None:
            check_settings('graded', graded, GradedScores)
            self.graded = GradedScores(**{'distance': self.options.distance, **graded})
            if self.options.reranking is not None:
                raise ValueError('graded relevance is scored by plain distances: leave out reranking')
        self.tables = None if values_out is None else ValueTables(values_out)
        # Two near rows of each of two classes, inside the unit ball: nothing ties.
        rows, labels = torch.eye(4) / 2 + torch.eye(4)[[1, 0, 3, 2]] / 4, [0, 0, 1, 1]
        retrieval_scores(rows, labels, options=self.options)

    def description(self, facts: RowFacts) -> str:
        """Say in one line what is done to these images: distance, protocol, and what is more than the plain search."""
        if self.protocol is by_roles:
            searches = 'queries search the gallery' if facts.roles.any() else 'every image searches all others'
        else:
            inner = [each for each in getattr(self.protocol, 'protocols', ()) if each is not by_roles]
            searches = ' of '.join(dict.fromkeys(type(each).__name__ for each in (self.protocol, *inner)))
        parts = [f'{self.options.distance}, {searches}']
        if facts.groups is not None:
            parts.append('gallery rows of the label and group of a query do not count')
        if self.options.ties != 'pessimistic' or self.options.no_positive != 'skip':
            parts.append(f'ties {self.options.ties}, no positive: {self.options.no_positive}')
        for name, given in (self.preparation.settings | dict(reranking=self.options.reranking)).items():
            if given is not None:
                values = ' '.join(f'{key}={value}' for key, value in given.items()) or 'defaults'
                parts.append(f'{name.replace("_", " ")} ({values})')
        if self._compares_gallery_rows:
            parts.append('transductive: test images help each other, not to be compared with plain figures')
        return '; '.join(parts)

    @property
    def _compares_gallery_rows(self) -> bool:
        return self.preparation.compares_gallery_rows or self.options.reranking is not None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the facts must have beside labels, roles, ids and groups."""
        return () if self.graded is None else self.graded.columns

    @property
    def works_on_shards(self) -> bool:
        """Whether :meth:`on_shards` can do all that is set.

        It cannot compare gallery rows of two ranks with each other, writes no values of queries, and searches with
        matrix products only.
        """
        of_all = bool(self.set_scores) or self.tables is not None or self.graded is not None
        return not (self._compares_gallery_rows or of_all) and self.options.backend == 'torch'

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
        remark_on_one_class(facts)
        relevance = None if self.graded is None else self.graded.classes_of(facts)
        splits = list(self.protocol(facts))
        members: dict[str, np.ndarray] = {}
        for split in splits:
            members.setdefault(split.prefix, split.members)
        for rows in members.values() if self.set_scores else ():
            self.set_scores.check(facts.labels[rows])
        search = partial(retrieval_values, device=device, options=self.options)
        if self.tables is not None:
            self.tables.clear()
        draws: dict[str, list[Scores]] = {}
        for split in splits:
            values: QueryValues = self._search(search, embeddings, facts, split, device)
            tables = draws.setdefault(split.prefix, [])
            if self.tables is not None:
                self.tables.add(f'{split.prefix}{len(tables)}', facts, split.query, values)
            tables.append(values.means(self.options.no_positive))
            if relevance is not None:
                classes, gains = relevance
                graded = partial(self.graded, gains=gains, device=device)
                tables[-1] |= self._search(graded, embeddings, classes, split, device)
        if self.tables is not None:
            self.tables.write()
        of_sets: dict[str, Scores] = {}
        for prefix, rows in members.items() if self.set_scores else ():
            of_sets[prefix] = self.set_scores(rows_of(embeddings, rows), facts.take(rows), device)
        return self._summary(draws, of_sets)

    def on_shards(
        self, embeddings: Tensor, rows: np.ndarray, facts: RowFacts, device: str | torch.device | None = None
    ) -> Scores:
        """Scores of embeddings that are spread over the ranks, on every rank those of all; all ranks must call it.

        Rank 0 calls the protocol, so that no draw can differ between the ranks; each rank searches with its part of
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
                're-ranking, query expansion, whitening fitted on the gallery, clustering, verification, values of '
                'queries and faiss need all rows at one place: gather them, and call the scoring itself'
            )
        if is_main_process():
            remark_on_one_class(facts)
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

    def _summary(self, draws: dict[str, list[Scores]], of_sets: dict[str, Scores]) -> Scores:
        """Scores by prefixed name, from those of every draw and those of the sets by prefix."""
        if not draws:
            raise ValueError(f'the protocol {self.protocol} has no search')
        scores: Scores = {}
        for prefix, tables in draws.items():
            found = _mean_and_std(tables) | of_sets.get(prefix, {})
            scores |= {prefix + name: value for name, value in found.items()}
        return scores

    def _search(
        self,
        search: Callable[..., Any],
        embeddings: Tensor,
        facts: RowFacts,
        split: Split,
        device: str | torch.device | None,
    ) -> Any:
        """Return what ``search`` returns for both sides of a split, whitened and expanded."""
        query, gallery, keys = sides_of(split, embeddings, facts)
        ids = {name: values for name, values in keys.items() if name.endswith('_ids')}
        query, gallery = self.preparation(query, gallery, ids, device)
        # A progress of its own: each search starts at nought.
        progress = LogProgress() if is_main_process() else None
        return search(query, gallery=gallery, progress=progress, **keys)


def _mean_and_std(draws: Sequence[Scores]) -> Scores:
    rows = np.array([list(draw.values()) for draw in draws])
    scores = dict(zip(draws[0], rows.mean(0).tolist(), strict=True))
    if len(draws) > 1:
        deviations = rows.std(0, ddof=1).tolist()
        scores |= {f'{name}_std': value for name, value in zip(draws[0], deviations, strict=True)}
    return scores
