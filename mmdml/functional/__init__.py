"""Math on finished embeddings ``(N, D)``; nothing here needs MMEngine."""

from .distances import DISTANCES
from .query_expansion import alpha_query_expansion
from .reranking import KReciprocalEncoding
from .whitening import PCAWhitening

__all__ = ['DISTANCES', 'KReciprocalEncoding', 'PCAWhitening', 'alpha_query_expansion']
