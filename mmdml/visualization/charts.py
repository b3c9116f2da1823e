"""Charts as images: points of a map, histograms, matrices; any text is shown as it is."""

import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from mmdml.utils.names import printable

#: Twelve colors that stay apart for most people, and gray for what is not named.
COLORS = (
    *('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9'),
    *('#7f3c8d', '#8c564b', '#1b1b1b', '#a6761d', '#66a61e', '#e7298a'),
)
REST = '#c4c4c4'
_LONGEST_NAME = 28


@contextmanager
def chart(width: float = 8.0, height: float = 6.0):
    """Give a figure and its axes to draw on; after the block, ``figure.image`` is the drawing, ``(H, W, 3)`` uint8 RGB.

    Args:
        width: in inches of 100 pixels.
        height: as well.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Dollar signs of names are no formulas; a letter that the font lacks is drawn as a box, which is enough.
    with rc_context({'text.parse_math': False, 'font.size': 10}), warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        figure = Figure((width, height), dpi=100, layout='constrained')
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        yield figure, axes
        canvas.draw()
        figure.image = np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def named(name: object) -> str:
    """Return a name as charts show it: printable, and not too long."""
    text = printable(name)
    if len(text) > _LONGEST_NAME:
        text = f'{text[:10]}…{text[-(_LONGEST_NAME - 11) :]}'
    # matplotlib leaves names that begin with _ out of legends.
    return f'\u200b{text}' if text.startswith('_') else text


def project(embeddings: np.ndarray, method: str = 'pca') -> tuple[np.ndarray, str]:
    """Map embeddings to the plane.

    Args:
        embeddings: ``(N, D)``.
        method: ``'pca'`` (the two directions of most variance) or ``'umap'`` (neighborhoods; needs umap-learn).

    Returns:
        ``(N, 2)`` float32 points, and what they are, in words.

    Raises:
        ValueError: an unknown method, or fewer than three rows.
        ImportError: UMAP is not installed.
    """
    if method not in PROJECTIONS:
        raise ValueError(f'the map must be one of {", ".join(PROJECTIONS)}, got {method!r}')
    if len(embeddings) < 3:
        raise ValueError(f'a map needs 3 embeddings or more, got {len(embeddings)}')
    return PROJECTIONS[method](np.asarray(embeddings, np.float32))


def _pca(embeddings: np.ndarray) -> tuple[np.ndarray, str]:
    centered = embeddings - embeddings.mean(axis=0)
    values, vectors = np.linalg.eigh(centered.T @ centered)
    axes = vectors[:, ::-1][:, :2]
    # The sign of an eigenvector means nothing: the largest entry is positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])])
    points = centered @ axes
    if points.shape[1] < 2:
        points = np.hstack([points, np.zeros_like(points)])
    share = values[::-1][:2].sum() / max(values.sum(), 1e-30)
    return points.astype(np.float32), f'PCA: two directions with {share:.0%} of the variance'


def _umap(embeddings: np.ndarray) -> tuple[np.ndarray, str]:
    try:
        from umap import UMAP
    except ImportError as error:
        raise ImportError(f"a UMAP needs umap-learn: pip install 'mmdml[umap]' ({error})") from error
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        neighbors = min(15, len(embeddings) - 1)
        reducer = UMAP(
            n_neighbors=neighbors, metric='cosine', random_state=0, init='pca' if len(embeddings) < 30 else 'spectral'
        )
        points = reducer.fit_transform(embeddings)
    return points.astype(np.float32), f'UMAP: neighborhoods of {neighbors} rows by cosine'


#: Ways to the plane.
PROJECTIONS = dict(pca=_pca, umap=_umap)


def draw_map(points: np.ndarray, names: np.ndarray, what: str, title: str, random: np.random.Generator) -> np.ndarray:
    """Draw points, twelve classes in colors of their own.

    Args:
        points: ``(N, 2)``.
        names: ``(N,)`` class names.
        what: the axes are.
        title: of the chart.
        random: chooses the classes where there are more.
    """
    classes = np.unique(names)
    shown = classes if len(classes) <= len(COLORS) else np.sort(random.choice(classes, len(COLORS), replace=False))
    rest = ~np.isin(names, shown)
    size = float(np.clip(12000 / len(points), 4, 40))
    with chart(10, 7) as (figure, axes):
        others = axes.scatter(*points[rest].T, s=size, c=REST, linewidths=0)
        for name, color in zip(shown.tolist(), COLORS, strict=False):
            axes.scatter(*points[names == name].T, s=size, c=color, alpha=0.8, linewidths=0, label=named(name))
        if rest.any():
            others.set_label(f'{len(classes) - len(shown)} other classes')
        finish_map(axes, what, title)
        handles, labels = axes.get_legend_handles_labels()
        order = [*range(int(rest.any()), len(handles)), *range(int(rest.any()))]
        handles, labels = [handles[each] for each in order], [labels[each] for each in order]
        figure.legend(handles, labels, loc='outside right upper', frameon=False, markerscale=(40 / size) ** 0.5)
    return figure.image


def draw_histogram(
    values: dict[str, np.ndarray], label: str, title: str, colors: Sequence[str] = COLORS, bins: int = 80
) -> np.ndarray:
    """Draw distributions over each other, with their medians.

    Args:
        values: of each group, by its name.
        label: of the axis.
        title: of the chart.
        colors: of the groups.
        bins: over the range of all values.
    """
    known = {name: each for name, each in values.items() if len(each)}
    everything = np.concatenate(list(known.values()))
    low, high = float(everything.min()), float(everything.max())
    edges = np.linspace(low, high if high > low else low + 1e-6, bins + 1)
    with chart(8, 5) as (_, axes):
        for (name, each), color in zip(known.items(), colors, strict=False):
            median = float(np.median(each))
            text = f'{name}: median {median:.3g}'
            axes.hist(each, edges, density=True, color=color, alpha=0.5, label=text)
            axes.axvline(median, color=color, linewidth=1.5, linestyle='--')
        axes.set(xlabel=label, ylabel='density', title=title)
        axes.spines[['top', 'right']].set_visible(False)
        axes.set_ylim(top=axes.get_ylim()[1] * 1.12)
        axes.legend(frameon=False, loc='best')
    return axes.figure.image


def draw_matrix(values: np.ndarray, rows: Sequence[object], columns: Sequence[object], **texts: Any) -> np.ndarray:
    """Draw shares in percent with the names of rows and columns.

    Args:
        values: ``(R, C)`` in 0..1.
        rows: R names.
        columns: C names.
        texts: ``title``, ``xlabel`` and ``ylabel``.
    """
    count = max(values.shape)
    with chart(4.5 + 0.55 * values.shape[1], 2.8 + 0.42 * count) as (figure, axes):
        image = axes.imshow(values, cmap='Blues', vmin=0, vmax=1, aspect='auto')
        axes.set_xticks(
            range(len(columns)), [named(each) for each in columns], rotation=45, ha='right', rotation_mode='anchor'
        )
        axes.set_yticks(range(len(rows)), [named(each) for each in rows])
        for row, column in zip(*np.nonzero(values >= 0.005), strict=True):
            value = values[row, column]
            axes.text(
                column, row, f'{100 * value:.0f}', ha='center', va='center', color='white' if value > 0.6 else 'black'
            )
        axes.set(**texts)
        figure.colorbar(image, ax=axes, format=lambda value, _: f'{100 * value:.0f} %', fraction=0.04)
    return figure.image


def finish_map(axes: Any, what: str, title: str) -> None:
    """Set what maps have in common: one scale for both axes, and no numbers beside them."""
    axes.set(xticks=[], yticks=[], xlabel=what, title=title)
    axes.set_aspect('equal', adjustable='datalim')
    axes.spines[:].set_color('#dddddd')
