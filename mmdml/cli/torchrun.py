"""``torchrun`` that ends like the command it runs: ``python -m mmdml.cli.torchrun [options] SCRIPT [arguments]``.

torchrun adds a traceback of its own to the error of a rank. The ranks of mmdml's tools say what is wrong; here it is
said for a rank that was killed.
"""

import logging
import os
import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run, and exit with 0, 1 after an error of a rank, or 130 and 143 after Ctrl-C and SIGTERM."""
    # A number that the user may raise: without it torchrun sets 1 and prints two lines about it.
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    os.environ.setdefault('MKL_NUM_THREADS', '1')
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    # What the launcher logs is said below or by the ranks.
    logging.disable(logging.CRITICAL)
    try:
        torchrun()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            print(f'error: rank {rank} was ended by {name}; the other ranks were stopped', file=sys.stderr)
        sys.exit(failure.exitcode if failure.exitcode in (130, 143) else 1)
    except SignalException as error:
        sys.exit(128 + error.sigval)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


if __name__ == '__main__':
    main()
