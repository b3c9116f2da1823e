"""Pictures of data sets, searches, embeddings, clusters and synthetic rows, and the hook that makes them in a run."""

from .contact_sheets import write_contact_sheets
from .embedding_drawings import draw_embeddings
from .picture_hook import PictureHook

__all__ = ['PictureHook', 'draw_embeddings', 'write_contact_sheets']
