"""Freed memory stays with the process, so that the next batch does not wait for it."""

import subprocess
import sys

import pytest

from mmdml.compat.memory import keep_freed_memory

CODE = """
import resource, sys
import numpy as np
from mmdml.compat.memory import keep_freed_memory
if sys.argv[1] == 'keep':
    keep_freed_memory()
np.ones(5_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(5_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason='the C library has no mallopt')
def test_pages_of_freed_arrays_are_used_again():
    keep, default = (
        int(subprocess.run([sys.executable, '-c', CODE, each], capture_output=True, text=True, check=True).stdout)
        for each in ('keep', 'default')
    )
    # An array of 40 MB has 10,000 pages, or 20 where the system makes them large.
    assert keep < 100 < 500 < default
