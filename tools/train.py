"""Train a model: ``python tools/train.py configs/iaa/iaa_ms_conv4_omniglot.py``."""

import mmdml  # noqa: F401  (first: it makes torchvision importable beside a CPU-only torch)
from mmdml.cli.config_runs import train_config
from mmdml.cli.errors import run_command

if __name__ == '__main__':
    run_command(train_config)
