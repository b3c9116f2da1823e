"""Arrays of other origin in the form that numpy and torch compute with."""

import numpy as np


def plain_strings(values: np.ndarray) -> np.ndarray:
    """Objects that are all ``str``, as pandas and pyarrow return them, as strings of numpy; others as they are."""
    if values.dtype == object and all(isinstance(value, str) for value in values.flat):
        return values.astype(np.str_)
    return values
