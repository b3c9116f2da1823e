"""Scores of a model on a folder or list of one's own pictures."""

from typing import Any

import numpy as np

from mmdml.apis import ImageEmbeddingInferencer
from mmdml.cli.own_data import read_own_data
from mmdml.evaluation.score_units import as_percent
from mmdml.evaluation.scoring import RetrievalScoring
from mmdml.functional.embedding_files import write_embeddings
from mmdml.registry import DATASETS
from mmdml.structures import RowFacts
from mmdml.utils.files import prepare_output
from mmdml.utils.image_files import require_regular
from mmdml.utils.names import printable


def folder_scores(
    embed: ImageEmbeddingInferencer, path: str, trained_on: list[str] | tuple = (), out: str | None = None
) -> dict[str, Any]:
    """Embed the pictures of a folder with a folder a class, or of a list, and score how they find each other.

    Args:
        embed: what embeds.
        path: of the folder, or of a list or table.
        trained_on: names of the classes of the training.
        out: .npz file to write the embeddings to, with labels and paths.

    Returns:
        ``pictures``, ``classes``, ``unreadable`` (path and reason), ``trained_on`` (number of classes) and ``scores``
        in percent.

    Raises:
        FileNotFoundError, ValueError: see :func:`~mmdml.cli.own_data.read_own_data`; ValueError also for one class, or
            no picture that can be read, or a folder in a list.
        ValueError, OSError: ``out`` cannot be written, or is the list or a picture; before anything is embedded.
    """
    data = read_own_data(path)
    if len(data.classes) < 2:
        raise ValueError(f'{printable(path)} has one class: every picture would be right; make a folder for each class')
    dataset = DATASETS.build(dict(**data.settings, split='test', test_mode=True))
    infos = [dataset.get_data_info(number) for number in range(len(dataset))]
    for info in infos:
        require_regular(info['img_path'])
    if out is not None:
        prepare_output(out, ('.npz',), [path, *(info['img_path'] for info in infos)])
    found = embed([info['img_path'] for info in infos])
    unreadable = {each.name for each in found.unreadable}
    # A list may name a file twice, as query and as gallery row.
    kept = [info for info in infos if info['img_path'] not in unreadable]
    if not kept:
        first = found.unreadable[0]
        raise ValueError(f'no picture of {printable(path)} can be read; {printable(first.name)}: {first.reason}')
    facts = RowFacts.of(
        np.array([info['gt_label'] for info in kept]),
        roles=np.array([info['role'] for info in kept]),
        paths=found.names,
        class_names=data.classes,
    )
    if out is not None:
        write_embeddings(out, found.embeddings, facts, embed.model_hash)
    return dict(
        pictures=len(kept),
        classes=len(data.classes),
        unreadable=[f'{printable(each.name)}: {each.reason}' for each in found.unreadable],
        trained_on=len({*trained_on} & {*data.classes}),
        scores=as_percent(
            RetrievalScoring(recall_at=[1, 2, 4, 8], distance=_distance_of(found.embeddings))(found.embeddings, facts)
        ),
    )


def _distance_of(embeddings: np.ndarray) -> str:
    """Return the distance that embeddings are made for: points inside the unit ball have a space of their own."""
    lengths = np.linalg.norm(embeddings, axis=1)
    # Unit vectors are of length 1, a zero row stays zero; rows that are longer than 1 lie in no ball.
    inside = (lengths > 0) & (lengths < 1 - 1e-3)
    return 'hyperbolic' if inside.any() and lengths.max() <= 1 + 1e-3 else 'cosine'
