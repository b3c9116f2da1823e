"""Augmentation of saved features, the only kind there is: the images are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmdml.registry import TRANSFORMS

if TYPE_CHECKING:
    from mmdml.datasets.feature_file import FeatureFile


class FeatureRows(NamedTuple):
    """Features of a batch on their way through a pipeline.

    Attributes:
        features: ``(B, C)`` float32.
        positions: ``(B,)`` positions in the dataset.
        generators: B generators, one a row: what is drawn does not depend on the batch.
        dataset: the rows come from.
    """

    features: Tensor
    positions: np.ndarray
    generators: list[np.random.Generator]
    dataset: FeatureFile


@TRANSFORMS.register_module()
class FeatureNoise:
    """Add Gaussian noise: ``x_c + std * sigma_c * eps`` with ``sigma_c`` the deviation of feature c in the dataset.

    Args:
        std: in units of ``sigma_c``, at least 0.

    Raises:
        ValueError: if it is negative.

    Config::

        dataset=dict(type='FeatureFile', pipeline=[dict(type='FeatureNoise', std=0.1)], ...)
    """

    def __init__(self, std: float) -> None:
        if std < 0:
            raise ValueError(f'std must be 0 or more, got {std}')
        self.std = std

    def __call__(self, rows: FeatureRows) -> FeatureRows:
        """Return the rows with noise."""
        width = rows.features.shape[1]
        noise = np.stack([generator.standard_normal(width, dtype=np.float32) for generator in rows.generators])
        return rows._replace(features=rows.features + self.std * rows.dataset.deviation * torch.from_numpy(noise))


@TRANSFORMS.register_module()
class FeatureMixup:
    """Move every row towards another of its class: ``x + w (x' - x)``, ``w`` uniform in ``[0, weight]``.

    The label stays, as mixing happens inside a class; a class with one row is left as it is.

    Args:
        weight: largest share of the other row, in [0, 1].

    Raises:
        ValueError: if it is out of range.

    Config::

        dataset=dict(type='FeatureFile', pipeline=[dict(type='FeatureMixup', weight=0.5)], ...)
    """

    def __init__(self, weight: float) -> None:
        if not 0 <= weight <= 1:
            raise ValueError(f'weight must be in [0, 1], got {weight}')
        self.weight = weight

    def __call__(self, rows: FeatureRows) -> FeatureRows:
        """Return the mixed rows."""
        labels, classes = rows.dataset.labels, rows.dataset.class_rows
        partners, weights = rows.positions.copy(), []
        for number, (position, generator) in enumerate(zip(rows.positions, rows.generators, strict=True)):
            others = classes[labels[position]]
            others = others[others != position]
            weights.append(self.weight * generator.random())
            if len(others):
                partners[number] = others[generator.integers(len(others))]
        other = rows.dataset.features_at(partners)
        return rows._replace(
            features=torch.lerp(rows.features, other, torch.tensor(weights, dtype=torch.float32).unsqueeze(1))
        )
