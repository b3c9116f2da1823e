"""Generators: what synthesizes embeddings, one folder or file a method."""

from .iaa import *  # noqa: F401, F403
