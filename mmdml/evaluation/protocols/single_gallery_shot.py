"""One gallery image per identity, drawn again and again."""

from collections.abc import Iterator

import numpy as np

from mmdml.registry import PROTOCOLS
from mmdml.structures.row_facts import QUERY_AND_GALLERY, RowFacts
from mmdml.utils.numbers import is_whole
from mmdml.utils.seeding import Stream, numpy_generator

from .base import Split


@PROTOCOLS.register_module()
class SingleGalleryShot:
    """One random image of each identity is the gallery, all others are queries; mean over several draws.

    Liu et al., CVPR 2016: the protocol of PKU VehicleID, whose lists of 800, 1,600 and 2,400 vehicles then give 5,693,
    11,777 and 17,377 queries. Scores are means over the draws, and 'Recall@1_std' is their standard deviation (of a
    sample, divisor ``repeats - 1``). Each query has one positive, so that CMC@K is Recall@K and mAP is MRR. Identities
    with a single image are in the gallery and have no query.

    Part of the papers score VehicleID all against all instead: see :class:`LeaveOneOut`, whose figures are much higher.

    Args:
        repeats: draws. The first n of them are the same whatever ``repeats``.
        seed: of the draws; they also depend on the order of the images.

    Raises:
        ValueError: if a setting is out of range.

    Example:
        >>> test_evaluator = dict(type='RetrievalMetric', protocol=dict(type='SingleGalleryShot', repeats=10))
    """

    def __init__(self, repeats: int = 10, seed: int = 0) -> None:
        if not is_whole(repeats) or repeats < 1:
            raise ValueError(f'repeats must be an integer of at least 1, got {repeats!r}')
        if not is_whole(seed) or seed < 0:
            raise ValueError(f'seed must be an integer of 0 or more, got {seed!r}')
        self.repeats = repeats
        self.seed = int(seed)

    def __call__(self, facts: RowFacts) -> Iterator[Split]:
        """One split a draw.

        Raises:
            ValueError: if roles already define the gallery, or no identity has two images.
        """
        if (facts.roles != QUERY_AND_GALLERY).any():
            raise ValueError(
                'SingleGalleryShot draws the gallery itself, but the images have roles that define it: use QueryGallery'
            )
        random = numpy_generator(Stream.GALLERY_DRAWS, self.seed)
        for _ in range(self.repeats):
            order = random.permutation(len(facts))
            # The first of each identity in a random order.
            gallery = np.sort(order[np.unique(facts.labels[order], return_index=True)[1]])
            query = np.setdiff1d(np.arange(len(facts)), gallery, assume_unique=True)
            if not len(query):
                raise ValueError(
                    f'SingleGalleryShot needs identities of at least two images; all {len(facts)} have one'
                )
            yield Split(query, gallery)
