"""The benchmark of training on a GPU, tiny and on the CPU: that every arm trains, and from the same loss."""

import os
import re
import subprocess
import sys

import pytest
from tiny import REPO

# They start processes that take several seconds each.
pytestmark = pytest.mark.slow


def test_every_arm_trains_and_those_with_the_same_weights_start_from_the_same_loss():
    environment = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'PYTHONWARNINGS': 'ignore'}
    command = [sys.executable, os.path.join(REPO, 'benchmarks', 'gpu_training.py'), '--tiny']
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    lines = re.findall(r'^(\S.*?) +(\d+) images/s .* first loss (\S+)$', ran.stdout, re.M)
    rates = {name: int(rate) for name, rate, _ in lines}
    losses = {name: float(loss) for name, _, loss in lines}
    assert len(rates) == 8 and min(rates.values()) > 0, ran.stdout

    def agree(first, second, tolerance):
        return abs(losses[first] - losses[second]) <= tolerance * losses[first]

    assert agree('mmdml, fp32', 'mmdml, all options, Runner', 1e-3)
    # Half precision of the backbone, on the CPU bf16, moves a loss of untrained weights by some hundredths.
    assert agree('mmdml, fp32', 'mmdml, fp16', 0.1) and agree('plain loop, fp32', 'plain loop, fp16', 0.1)
    assert agree('mmdml, fp16', 'mmdml, all options', 0.1)
