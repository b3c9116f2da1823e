"""The gallery that comes with mmdml, in a store.

``python -m mmdml.apis.demo_gallery`` writes the embeddings of the default model anew, after that model or the gallery
has changed.
"""

import os
from pathlib import Path

import numpy as np

import mmdml
from mmdml.apis.embedding_inferencer import ImageEmbeddingInferencer
from mmdml.apis.gallery_update import file_facts, listed, update_gallery
from mmdml.index import Item, VectorStore, open_store
from mmdml.utils.files import write_atomically

#: Grocery photographs, a folder a class; ``gallery.csv`` has their labels and metadata.
DEMO_GALLERY = Path(mmdml.__file__).parent / 'datasets' / 'data' / 'grocery_gallery'
_LIST = DEMO_GALLERY / 'gallery.csv'
#: Embeddings of the gallery by the default model, in half precision, so that the first start has nothing to embed.
EMBEDDINGS = DEMO_GALLERY / 'embeddings.npz'


def open_demo_store(embed: ImageEmbeddingInferencer, cache: str | Path | None = None, model: str = '') -> VectorStore:
    """Open the store of the demo gallery to read, made or completed if need be.

    Args:
        embed: the model.
        cache: folder for a store of each model. Default: ``mmdml`` in the user's cache folder (``XDG_CACHE_HOME``).
        model: name of the model, kept in a new store.

    Raises:
        OSError: the store cannot be written.
        RuntimeError: another process makes it at the moment.
    """
    folder = Path(cache or default_cache()) / f'demo-{embed.model_hash[:16]}'
    if not _is_whole(folder):
        with open_store(folder, embed.dimensions, embed.model_hash, write=True, model=model) as store:
            if not store.count():
                _add_embeddings(store)
            update_gallery(store, embed, DEMO_GALLERY, listed(_LIST, DEMO_GALLERY), remove=True)
            # Pictures of another installation of mmdml.
            store.delete([row.id for row in store.rows() if not _is_here(row.item.path)])
    return open_store(folder)


def default_cache() -> Path:
    """Return the folder for what can be made anew."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mmdml'


def write_embeddings(embed: ImageEmbeddingInferencer) -> None:
    """Write the file of embeddings that comes with the gallery."""
    found = embed(DEMO_GALLERY)
    paths = [os.path.relpath(name, DEMO_GALLERY) for name in found.names]
    with write_atomically(EMBEDDINGS) as file:
        np.savez(file, model_hash=embed.model_hash, paths=paths, embeddings=found.embeddings.astype(np.float16))


def _add_embeddings(store: VectorStore) -> None:
    """Add the embeddings that come with the gallery, if they are of the store's model."""
    if not EMBEDDINGS.exists():
        return
    with np.load(EMBEDDINGS, allow_pickle=False) as saved:
        if str(saved['model_hash']) != store.model_hash:
            return
        paths, vectors = saved['paths'].tolist(), saved['embeddings'].astype(np.float32)
    describe = listed(_LIST, DEMO_GALLERY)
    items = []
    for path in paths:
        (label, metadata), file = describe(path), str(DEMO_GALLERY / path)
        items.append(Item(file, label, *file_facts(file), metadata))
    store.add(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), items)


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


if __name__ == '__main__':
    write_embeddings(ImageEmbeddingInferencer())
