"""Scores of a set of images as a whole, beside searches: clustering, verification and threshold consistency."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdml.structures.row_facts import RowFacts
from mmdml.utils.near_names import check_settings

from .functional.clustering import clustering_scores, count_clusters
from .functional.threshold_consistency import threshold_consistency
from .functional.verification import verification_scores


class SetScores:
    """Clustering scores, ROC figures over pairs, and OPIS; what is None is left out.

    Options are tried on four rows at once.

    Args:
        clustering: options of :func:`~mmdml.evaluation.functional.clustering_scores`.
        verification: options of :func:`~mmdml.evaluation.functional.verification_scores`.
        consistency: options of :func:`~mmdml.evaluation.functional.threshold_consistency`.
        distance: of the searches; verification and consistency take it unless they have their own.

    Raises:
        ValueError: if an option is out of range.
        TypeError: if there is no option of a name.
    """

    def __init__(
        self,
        clustering: dict[str, Any] | None,
        verification: dict[str, Any] | None,
        consistency: dict[str, Any] | None,
        distance: str,
    ) -> None:
        self.clustering = clustering
        pairwise = {verification_scores: verification, threshold_consistency: consistency}
        self.pairwise = {
            score: dict(distance=distance) | options for score, options in pairwise.items() if options is not None
        }
        rows, labels = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), [0, 0, 1, 1]
        if clustering is not None:
            check_settings('clustering', clustering, clustering_scores)
            clustering_scores(rows, labels, **{**clustering, 'num_clusters': 2})
        for score, options in self.pairwise.items():
            check_settings(score.__name__, options, score)
            score(rows, labels, **options)

    def __bool__(self) -> bool:
        return self.clustering is not None or bool(self.pairwise)

    def check(self, labels: np.ndarray) -> None:
        """Check what the scores need of these images, before any search.

        Raises:
            ValueError: if there are fewer images than clusters.
            TypeError: if labels are neither integers nor strings.
        """
        if self.clustering is not None:
            count_clusters(labels, len(labels), self.clustering.get('num_clusters'))

    def __call__(self, embeddings: Tensor, facts: RowFacts, device: str | torch.device | None) -> dict[str, float]:
        """Scores by name, of all rows."""
        scores: dict[str, float] = {}
        if self.clustering is not None:
            scores |= clustering_scores(embeddings, facts.labels, **self.clustering)
        for score, options in self.pairwise.items():
            scores |= score(embeddings, facts.labels, **{'ids': facts.ids, 'device': device, **options})
        return scores
