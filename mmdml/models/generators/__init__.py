"""Generators: what synthesizes embeddings, one folder or file a method."""

from .base import Generator  # noqa: F401
from .embedding_expansion import EmbeddingExpansion  # noqa: F401
from .flow_prior import FlowPrior  # noqa: F401
from .iaa import *  # noqa: F401, F403
from .metrix import Metrix  # noqa: F401
from .proxy_synthesis import ProxySynthesis  # noqa: F401
from .symmetrical_synthesis import SymmetricalSynthesis  # noqa: F401
