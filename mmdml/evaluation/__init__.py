"""Retrieval evaluation: pure functions, protocols, and thin metrics over them."""

from .functional import *  # noqa: F401, F403
from .metrics import *  # noqa: F401, F403
from .protocols import *  # noqa: F401, F403
from .scoring import RetrievalScoring  # noqa: F401
