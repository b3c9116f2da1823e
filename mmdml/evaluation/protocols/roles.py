"""Protocols that need no draw: all against all, and queries against a gallery."""

from collections.abc import Iterator

import numpy as np

from mmdml.registry import PROTOCOLS
from mmdml.structures.row_facts import GALLERY, QUERY, QUERY_AND_GALLERY, RowFacts

from .base import Split


# The second name is that of the VehicleID papers.
@PROTOCOLS.register_module(name=['LeaveOneOut', 'AllVersusAll'])
class LeaveOneOut:
    """Every image searches all the others, itself left out by identity; roles do not count.

    Song et al., CVPR 2016: the protocol of CUB-200-2011, Cars196 and Stanford Online Products. Under the name
    ``'AllVersusAll'`` it is what part of the papers score on PKU VehicleID, others :class:`SingleGalleryShot`. With
    several images a vehicle to be found it is far easier: Recall@1 of 95 % here and 77 % there may be the same
    model. Never compare figures of one with those of the other.

    Example:
        >>> val_evaluator = dict(type='RetrievalMetric', protocol=dict(type='LeaveOneOut'))
    """

    def __call__(self, facts: RowFacts) -> Iterator[Split]:
        """One split without a gallery."""
        yield Split(np.arange(len(facts)))


@PROTOCOLS.register_module()
class QueryGallery:
    """Queries (role 1) search the gallery (role 2); images of role 0 are in both and never find themselves.

    Liu et al., CVPR 2016: the protocol of In-shop Clothes Retrieval. With ``groups='camera'`` in the metric that of
    Market-1501 (Zheng et al., ICCV 2015).

    Example:
        >>> val_evaluator = dict(type='RetrievalMetric', protocol=dict(type='QueryGallery'))
    """

    def __call__(self, facts: RowFacts) -> Iterator[Split]:
        """One split.

        Raises:
            ValueError: if there are no roles, no queries or no gallery.
        """
        if (facts.roles == QUERY_AND_GALLERY).all():
            raise ValueError(
                'QueryGallery needs roles, 1 for queries and 2 for the gallery, but every image is both: '
                'use LeaveOneOut'
            )
        query, gallery = np.flatnonzero(facts.roles != GALLERY), np.flatnonzero(facts.roles != QUERY)
        for side, rows, role in (('query', query, QUERY), ('gallery image', gallery, GALLERY)):
            if not len(rows):
                raise ValueError(f'QueryGallery finds no {side}: no image has the role {role} or 0')
        yield Split(query, gallery)


def by_roles(facts: RowFacts) -> Iterator[Split]:
    """:class:`QueryGallery` where there are roles, :class:`LeaveOneOut` where there are none: the default."""
    return (QueryGallery() if facts.roles.any() else LeaveOneOut())(facts)
