"""What would fail on a machine with an accelerator: parts of a head, runs and searches, on one that is pretended."""

import os
import subprocess
import sys

import pytest
from tiny import REPO
from torch.utils import backend_registration

# They start processes that take several seconds each.
pytestmark = pytest.mark.slow

TESTS = (
    'accelerator_walk.py',
    'test_engine/test_no_waits.py',
    'test_evaluation/test_accelerators.py',
    'test_engine/test_hooks.py::test_a_backbone_frozen_for_the_whole_run_comes_out_as_it_went_in',
    'test_engine/test_division_hook.py::test_boundaries_are_joined_once_when_the_divide_stage_ends',
    'test_engine/test_division_runs.py::test_a_doubling_copies_masks_and_learned_margins_to_children_and_resets_the_'
    'optimizer_for_these_alone',
    'test_engine/test_runner.py::test_a_run_that_failed_can_be_resumed_in_the_same_process',
)


@pytest.mark.skipif(
    not hasattr(backend_registration, '_setup_privateuseone_for_python_backend'),
    reason='needs a torch whose further device can be written in Python; 2.13 is one',
)
def test_nothing_leaves_the_device_of_the_model():
    # In a process of its own: torch knows such a device for the whole of a process.
    command = [sys.executable, '-m', 'pytest', '-p', 'pretended_accelerator', '-n0', '-q', '-W', 'ignore']
    environment = {**os.environ, 'PYTHONPATH': os.path.join(REPO, 'tests')}
    ran = subprocess.run(
        command + [os.path.join('tests', test) for test in TESTS],
        cwd=REPO,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-1000:]
