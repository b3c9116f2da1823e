"""Score a checkpoint, or the untrained model: ``python tools/test.py CONFIG|NAME [CHECKPOINT]``."""

import mmdml  # noqa: F401  (first: it makes torchvision importable beside a CPU-only torch)
from mmdml.cli.config_runs import score_config
from mmdml.cli.errors import run_command

if __name__ == '__main__':
    run_command(score_config)
