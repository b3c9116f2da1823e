"""Scores for what products in fp32 leave open: by products in fp64, and exact ones."""

from functools import cached_property, partial

import torch
from torch import Tensor

from mmdml.functional.double_scores import DoubleScores, distinct_rows
from mmdml.functional.space import Space

from .close_runs import PairScores
from .ranks import Scores, new_scores


class FinerScores:
    """Scores of whole rows, and of pairs.

    Args:
        space: of the gallery.

    Attributes:
        in_turn: ways to score rows in which the way before left many pairs open, ``given (Q, D)`` -> scores
            ``(Q, L)``, their ``(Q, 1)`` window, and exact scores of pairs where those are not.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        # Products in fp64 say no more where the rows are fp64; MPS has none.
        self.has_double = space.given.dtype == torch.float32 and space.given.device.type != 'mps'
        self.in_turn = [self._in_double] * self.has_double + [self._exactly]

    @cached_property
    def double(self) -> DoubleScores:
        """Scores by products in fp64."""
        return DoubleScores(self.space)

    @cached_property
    def distinct(self) -> tuple[Tensor, Tensor]:
        """Gallery rows of which no two are equal, and which of them each row is equal to."""
        return distinct_rows(self.space.given)

    def _in_double(self, given: Tensor) -> tuple[Tensor, Tensor, Scores]:
        directions, window = self.double.directions(given)
        scores = new_scores(len(given), self.space.gallery).double()
        self.double.put(directions, scores)
        return scores, window, partial(self.space.pairs, given)

    def _exactly(self, given: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the exact scores of all pairs; equal gallery rows are scored once."""
        distinct, copies = self.distinct
        scores = new_scores(len(given), self.space.gallery).double()
        if given.device.type == 'mps':
            scores, copies = scores.cpu(), copies.cpu()
        for place in range(len(given)):
            rows = torch.full_like(distinct, place)
            scores[place, : len(copies)] = self.space.pairs(given, rows, distinct)[copies]
        return scores, torch.zeros_like(scores[:, :1]), None

    def pairs(self, given: Tensor) -> PairScores:
        """Return scores of pairs of some queries with gallery rows, by products in fp64 first where there are such."""
        exact = partial(self.space.pairs, given)
        if not self.has_double:
            return PairScores(exact)
        directions, window = self.double.directions(given)
        return PairScores(exact, partial(self.double.pairs, directions), window)
