"""Arrays of other origin in the form that numpy and torch compute with."""

import numpy as np


def plain_strings(values: np.ndarray) -> np.ndarray:
    """Objects that are all ``str``, as pandas and pyarrow return them, as strings of numpy; others as they are."""
    if values.dtype == object and all(isinstance(value, str) for value in values.flat):
        return values.astype(np.str_)
    return values


def plain_bytes(values: np.ndarray) -> np.ndarray:
    """Objects that are all ``bytes``, as pyarrow returns them, as bytes of numpy; others as they are."""
    if values.dtype == object and values.size and all(isinstance(value, bytes) for value in values.flat):
        return values.astype(np.bytes_)
    return values


def rows_beyond_fp64(values: np.ndarray) -> np.ndarray:
    """Numbers of the rows ``(N, ...)`` with whole numbers beyond 2**53, of which fp64 makes equal ones of several."""
    if values.dtype.kind not in 'iu' or values.dtype.itemsize < 8:
        return np.empty(0, np.int64)
    return np.flatnonzero(((values > 2**53) | (values < -(2**53))).reshape(len(values), -1).any(1))
