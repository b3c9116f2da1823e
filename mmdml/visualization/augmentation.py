"""Pictures of IAA: real and synthetic rows on a map, and how far the rows of each class are spread."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmdml.structures import Embeddings
from mmdml.utils.seeding import Stream, numpy_generator, torch_generator
from mmdml.visualization.charts import COLORS, chart, finish_map, named, project

#: Classes and rows of a class that a map of synthetic rows shows.
_CLASSES, _ROWS = 8, 40


def draw_synthetic_rows(
    embeddings: Embeddings, std: Tensor, lam: float, classes: list[str], copies: int = 3, seed: int = 0
) -> np.ndarray:
    """Draw unit rows of some classes, and synthetic ones around them, on the map of the real ones.

    Synthetic rows are ``normalize(z + sqrt(lambda_t) sigma_y eps)``, as the generator makes them (Eq. 17).

    Args:
        embeddings: raw rows of the training set, with their labels.
        std: ``(C, D)`` sigma of each class, corrected.
        lam: lambda_t.
        classes: C names.
        copies: synthetic rows of each real one.
        seed: of the choice and the noise.
    """
    raw, labels = embeddings.raw.cpu().float(), embeddings.labels.cpu()
    random = numpy_generator(Stream.PICTURES, seed)
    known = np.flatnonzero(np.bincount(labels.numpy(), minlength=len(classes)) >= 2)
    shown = np.sort(random.choice(known, min(_CLASSES, len(known)), replace=False))
    rows = np.concatenate([random.permutation(np.flatnonzero(labels == label))[:_ROWS] for label in shown.tolist()])
    anchors, of = raw[rows], labels[rows]
    noise = torch.randn(copies, *anchors.shape, generator=torch_generator(Stream.PICTURES, seed))
    synthetic = F.normalize((anchors + lam**0.5 * std.cpu()[of] * noise).flatten(0, 1), dim=1)
    points, what = project(torch.cat([F.normalize(anchors, dim=1), synthetic]).numpy(), 'pca')
    real, made, of = points[: len(rows)], points[len(rows) :], of.numpy()
    with chart(10, 7) as (figure, axes):
        for label, color in zip(shown.tolist(), COLORS, strict=False):
            own = np.tile(of == label, copies)
            axes.scatter(*made[own].T, s=16, c=color, alpha=0.55, marker='x', linewidths=0.8)
            dots = dict(s=34, c=color, edgecolors='white', linewidths=0.6)
            axes.scatter(*real[of == label].T, **dots, label=named(classes[label]))
        axes.scatter([], [], s=34, c='black', label='real row')
        axes.scatter([], [], s=20, c='black', marker='x', linewidths=0.8, label='synthetic row')
        finish_map(axes, what, f'{len(rows)} real rows, {copies} synthetic ones of each, λ = {lam:.2f}')
        figure.legend(loc='outside right upper', frameon=False)
    return figure.image


def draw_class_spread(count: Tensor, var: Tensor, corrected: Tensor) -> np.ndarray:
    """Draw the spread of each class, ``sqrt(trace Sigma)``, before and after the correction by its neighbors.

    Args:
        count: ``(C,)`` images of each class.
        var: ``(C, D)`` variances as estimated (Eq. 8).
        corrected: ``(C, D)`` variances as corrected (Eq. 15).
    """
    from matplotlib.ticker import MaxNLocator

    count = count.cpu().numpy()
    own, after = (each.cpu().float().sum(dim=1).sqrt().numpy() for each in (var, corrected))
    some = count > 0
    medians = np.median(own[some]), np.median(after[some])
    with chart(8, 6.5) as (figure, axes):
        both = np.concatenate([own[some], after[some]])
        low, top = 0.94 * float(both.min()), 1.06 * max(float(both.max()), 1e-6)
        axes.plot([low, top], [low, top], color='#999999', linewidth=1, linestyle='--', label='no correction')
        dots = axes.scatter(own[some], after[some], s=26, c=count[some], cmap='viridis', alpha=0.85, linewidths=0)
        if len(set(count[some].tolist())) > 1:
            figure.colorbar(dots, ax=axes, label='images of the class', fraction=0.05, ticks=MaxNLocator(integer=True))
        axes.set(
            xlim=(low, top),
            ylim=(low, top),
            xlabel='spread of its own images, √(trace Σ)',
            ylabel='after correction by neighbors',
            title=f'Spread of {int(some.sum()):,} classes, median {medians[0]:.3g} → {medians[1]:.3g}',
        )
        axes.spines[['top', 'right']].set_visible(False)
        axes.legend(frameon=False, loc='upper left')
    return figure.image
