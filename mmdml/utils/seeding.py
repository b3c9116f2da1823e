"""Seeds for named random streams."""

import numpy as np


def derive_seed(*keys: int) -> int:
    """Mix non-negative integers to one 63-bit seed.

    Streams with different keys are independent; the same keys give the same seed in any process and on any machine.

    Args:
        keys: e.g. ``(run seed, purpose, epoch, rank)``.
    """
    high, low = np.random.SeedSequence([int(key) for key in keys]).generate_state(2, np.uint32)
    return (int(high) << 32 | int(low)) & (2**63 - 1)
