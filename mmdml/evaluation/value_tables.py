"""Values of every query and means of every class, as text tables."""

import csv
import os.path as osp
from typing import Any

import numpy as np

from mmdml.functional.embedding_files import own_labels
from mmdml.structures.row_facts import RowFacts
from mmdml.utils.files import prepare_output, write_atomically

from .functional.query_values import QueryValues


def class_table(path: str) -> str:
    """Return the name of the table by class beside that by query."""
    return f'{osp.splitext(path)[0]}.classes.csv'


class ValueTables:
    """Two tables that grow with every search: ``NAME.csv`` by query, and ``NAME.classes.csv`` by class.

    Columns by query: ``search`` (part and number of the draw), ``row`` in the dataset, ``path``, ``label``,
    ``positives`` in the gallery, and each measure as a fraction, empty for queries without a positive. By class:
    ``search``, ``label``, ``queries`` with a positive, and the means of the measures over these.

    Args:
        path: of the first table, ending with .csv; the folder is made at once.

    Raises:
        ValueError: if the name ends otherwise.
        OSError: if the tables cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.path = prepare_output(path, ('.csv',))
        self.class_path = prepare_output(class_table(path))
        self.clear()

    def clear(self) -> None:
        """Forget the searches so far."""
        self._queries: list[list[Any]] = []
        self._classes: list[list[Any]] = []
        self._names: list[str] = []

    def add(self, search: str, facts: RowFacts, rows: np.ndarray, values: QueryValues) -> None:
        """Take the values of one search.

        Args:
            search: its name.
            facts: of all images.
            rows: ``(Q,)`` which of them are the queries.
            values: of the Q queries.
        """
        self._names = list(values.values)
        labels = own_labels(facts)[rows]
        columns = [column.tolist() for column in values.values.values()]
        for place, (row, label) in enumerate(zip(rows.tolist(), labels.tolist(), strict=True)):
            path = '' if facts.paths is None else str(facts.paths[row])
            known = bool(values.answered[place])
            cells = [column[place] if known else '' for column in columns]
            self._queries.append([search, row, path, label, int(values.num_relevant[place]), *cells])
        counts = dict(zip(*np.unique(labels[values.answered.numpy()], return_counts=True), strict=True))
        for label, means in values.class_means(labels).items():
            self._classes.append([search, label, int(counts[label]), *means.values()])

    def write(self) -> None:
        """Write both tables, each whole or not at all."""
        for path, header, rows in (
            (self.path, ['search', 'row', 'path', 'label', 'positives'], self._queries),
            (self.class_path, ['search', 'label', 'queries'], self._classes),
        ):
            with write_atomically(path, 'w', encoding='utf-8', errors='surrogateescape', newline='') as file:
                csv.writer(file, lineterminator='\n').writerows([[*header, *self._names], *rows])
