"""How the C library hands out memory for tensors on the CPU."""

import ctypes

# Numbers of mallopt(3) and what they are set to, in bytes.
_SETTINGS = {'M_MMAP_THRESHOLD': (-3, 1 << 30), 'M_TRIM_THRESHOLD': (-1, (1 << 31) - 1), 'M_TOP_PAD': (-2, 1 << 26)}


def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed tensors for the next ones, where its C library is glibc.

    By default glibc returns every block above 32 MB, and smaller ones at the end of its heap, to the system, and
    the system clears each page again when the next batch needs it.

    Returns:
        Whether all settings were taken.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return all([mallopt(number, value) for number, value in _SETTINGS.values()])
