"""The gallery that comes with mmdml, in a store."""

import os
from pathlib import Path

import mmdml
from mmdml.apis.embedding_inferencer import ImageEmbeddingInferencer
from mmdml.apis.gallery_update import listed, update_gallery
from mmdml.index import VectorStore, open_store

#: Grocery photographs, a folder a class; ``gallery.csv`` has their labels and metadata.
DEMO_GALLERY = Path(mmdml.__file__).parent / 'datasets' / 'data' / 'grocery_gallery'


def open_demo_store(embed: ImageEmbeddingInferencer, cache: str | Path | None = None) -> VectorStore:
    """Open the store of the demo gallery to read, made or completed if need be.

    Args:
        embed: the model.
        cache: folder for a store of each model. Default: ``mmdml`` in the user's cache folder (``XDG_CACHE_HOME``).

    Raises:
        OSError: the store cannot be written.
        RuntimeError: another process makes it at the moment.
    """
    folder = Path(cache or default_cache()) / f'demo-{embed.model_hash[:16]}'
    if not _is_whole(folder):
        with open_store(folder, embed.dimensions, embed.model_hash, write=True) as store:
            update_gallery(store, embed, DEMO_GALLERY, listed(DEMO_GALLERY / 'gallery.csv', DEMO_GALLERY), remove=True)
            # Pictures of another installation of mmdml.
            store.delete([row.id for row in store.rows() if not _is_here(row.item.path)])
    return open_store(folder)


def default_cache() -> Path:
    """Return the folder for what can be made anew."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mmdml'


def _is_whole(folder: Path) -> bool:
    """Whether the store has all pictures, as they lie in this installation."""
    try:
        with open_store(folder) as store:
            paths = {row.item.path for row in store.rows()}
    except (FileNotFoundError, ValueError):
        return False
    return paths == {str(path) for path in DEMO_GALLERY.glob('*/*.jpg')}


def _is_here(path: str) -> bool:
    return Path(path).is_relative_to(DEMO_GALLERY)
