"""Generators: what synthesizes embeddings, one folder or file a method."""

from .base import Generator  # noqa: F401
from .iaa import *  # noqa: F401, F403
