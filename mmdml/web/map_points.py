"""A gallery as points in the plane."""

import importlib.util
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException

from mmdml.utils.names import printable
from mmdml.web.galleries import Gallery, spread

#: Rows that a map shows at most, spread over the gallery.
MAP_ROWS = 4000
METHODS = ('pca', 'umap')


def available_methods() -> list[str]:
    """Return the methods that this installation has."""
    return [name for name in METHODS if name != 'umap' or importlib.util.find_spec('umap') is not None]


class MapPoints:
    """Compute maps one at a time beside the searches, and keep them."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix='map')
        self._maps: dict[tuple[str, str], tuple[bytes, Future]] = {}
        self._access = threading.Lock()

    def get(self, gallery: Gallery, method: str, wait: float) -> dict[str, Any] | None:
        """Return a map, None while it is computed.

        Args:
            gallery: what the points are.
            method: as :func:`~mmdml.visualization.charts.project` takes it.
            wait: seconds to wait for it.

        Raises:
            HTTPException: there is no such method here, or the gallery has too few rows for it.
        """
        if method not in available_methods():
            hint = "; UMAP needs umap-learn: pip install 'mmdml[umap]'" if method in METHODS else ''
            raise HTTPException(400, f'method={method[:20]!r} must be one of {", ".join(available_methods())}{hint}')
        ids = spread(gallery.ids(), MAP_ROWS)
        if len(ids) < 3:
            raise HTTPException(400, f'{gallery.name} has {len(ids)} pictures; a map needs 3 or more')
        with self._access:
            key, content = (gallery.name, method), ids.tobytes()
            if key not in self._maps or self._maps[key][0] != content:
                self._maps[key] = content, self._pool.submit(_map, gallery, ids, method)
            future = self._maps[key][1]
        try:
            return future.result(wait)
        except NotYet:
            return None
        except ValueError as error:  # the store was damaged
            raise HTTPException(422, str(error)) from None

    def close(self) -> None:
        """Start no further maps."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _map(gallery: Gallery, ids: np.ndarray, method: str) -> dict[str, Any]:
    from mmdml.visualization.charts import project  # which loads torch

    rows = [row for row in gallery.store.get(ids.tolist()) if row is not None]
    points, about = project(gallery.store.vectors([row.id for row in rows]), method)
    points = _in_unit_square(points)
    labels = {label: number for number, label in enumerate(gallery.labels().counts)}
    return dict(
        store=gallery.name,
        about=about,
        count=gallery.store.count(),
        labels=list(labels),
        # id, x, y and number of the label, -1 for none.
        points=[
            [row.id, round(x, 4), round(y, 4), labels.get(printable(row.item.label), -1)]
            for row, (x, y) in zip(rows, points.tolist(), strict=True)
        ],
    )


def _in_unit_square(points: np.ndarray) -> np.ndarray:
    """Shift and scale points into 0..1, with one scale for both axes."""
    points = np.asarray(points, np.float64)
    low, high = points.min(0), points.max(0)
    return (points - (low + high) / 2) / max((high - low).max(), 1e-12) + 0.5
