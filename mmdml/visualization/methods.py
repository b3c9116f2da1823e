"""What IAA and D&C make of a training set: clusters, synthetic rows, and the spread of classes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from mmdml.models.generators.iaa import IAAGenerator
from mmdml.structures import Embeddings, Progress
from mmdml.visualization.augmentation import draw_class_spread, draw_synthetic_rows
from mmdml.visualization.clusters import cluster_sheet
from mmdml.visualization.contact_sheets import pictures_of_dataset

#: Pictures by name, and what they show.
METHOD_KINDS = ('division', 'synthetic_rows', 'class_spread')


def estimating_generator(model: Any) -> IAAGenerator | None:
    """Return the generator of IAA in a model, None without one that has an estimate."""
    generators = [each for each in model.modules() if isinstance(each, IAAGenerator) and each.estimator.ready]
    return generators[0] if generators else None


def drawn_methods(
    dataset: Any,
    clusters: Tensor | None,
    generator: IAAGenerator | None,
    embeddings: Embeddings | None,
    progress: Progress,
    seed: int = 0,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names of :data:`METHOD_KINDS` and images, ``(H, W, 3)`` uint8 RGB.

    Args:
        dataset: that is trained on.
        clusters: ``(N,)`` of its images, -1 for none; None without D&C.
        generator: of IAA, with an estimate; None without.
        embeddings: of the dataset; needed with a generator.
        progress: position of the run.
        seed: of the choice.
    """
    classes = [str(name) for name in dataset.metainfo['classes']]
    if clusters is not None:
        names, pictures = np.array(classes)[dataset.labels], pictures_of_dataset(dataset)
        title = f'Clusters of the training images, epoch {progress.epoch + 1}'
        yield 'division', cluster_sheet(clusters.numpy(), names, pictures, seed, title)
    if generator is not None:
        statistics, std = generator.estimator.statistics, generator.estimator.std_of(None)
        yield 'synthetic_rows', draw_synthetic_rows(embeddings, std, generator.lam_at(progress), classes, seed=seed)
        yield 'class_spread', draw_class_spread(*(statistics[key] for key in ('count', 'var', 'corrected')))
