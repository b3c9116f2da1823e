"""What would fail on a machine with an accelerator: the parts of a head and whole runs, on one that is pretended."""

import os
import subprocess
import sys

import pytest
from tiny import REPO

# In a process of its own: torch knows one such device for the whole of a process.
SELECTIONS = {
    'parts of a head': ['tests/accelerator_walk.py'],
    'runs': [
        f'tests/test_engine/{test}'
        for test in (
            'test_hooks.py::test_a_backbone_frozen_for_the_whole_run_comes_out_as_it_went_in',
            'test_hooks.py::test_ema_weights_are_what_is_evaluated_and_saved',
            'test_hooks.py::test_gradient_accumulation_updates_once_in_n_steps',
            'test_division_hook.py::test_boundaries_are_joined_once_when_the_divide_stage_ends',
            'test_runner.py::test_a_run_that_failed_can_be_resumed_in_the_same_process',
        )
    ],
}


@pytest.mark.parametrize('tests', SELECTIONS.values(), ids=list(SELECTIONS))
def test_nothing_leaves_the_device_of_the_model(tests):
    command = [sys.executable, '-m', 'pytest', '-p', 'pretended_accelerator', '-n0', '-q', '-W', 'ignore', *tests]
    environment = {**os.environ, 'PYTHONPATH': os.path.join(REPO, 'tests')}
    ran = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-1000:]
