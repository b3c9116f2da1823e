"""Retrieval evaluation: pure functions, and thin metrics over them."""

from .functional import *  # noqa: F401, F403
from .metrics import *  # noqa: F401, F403
