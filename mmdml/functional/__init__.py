"""Math on finished embeddings ``(N, D)``; nothing here needs MMEngine."""

from .query_expansion import alpha_query_expansion
from .reranking import KReciprocalEncoding
from .spaces import DISTANCES
from .whitening import PCAWhitening

__all__ = ['DISTANCES', 'KReciprocalEncoding', 'PCAWhitening', 'alpha_query_expansion']
