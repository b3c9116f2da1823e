"""The shell scripts that start several processes."""

import os
import subprocess
import sys

import pytest
from tiny import REPO, tiny_config


def script(name, *arguments, **env):
    return subprocess.run(
        ['bash', os.path.join(REPO, 'tools', name), *map(str, arguments)],
        env=dict(os.environ, PYTHON=sys.executable, **env),
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize('name', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'])
def test_missing_arguments_are_met_with_the_usage(name):
    done = script(name, 'CONFIG')
    assert done.returncode == 2 and done.stderr.startswith(f'usage: bash tools/{name} ')


@pytest.mark.slow
def test_an_error_of_all_ranks_is_shown_once_and_without_traceback(pictures, tmp_path):
    tiny_config(pictures, tmp_path / 'run').dump(str(tmp_path / 'tiny.py'))
    arguments = (tmp_path / 'tiny.py', 2, '--cfg-options', 'model.head.loss.betta=2')
    done = script('dist_train.sh', *arguments, PORT='29641')
    assert done.returncode == 1
    assert done.stderr == "error: model.head.loss.betta: MultiSimilarityLoss takes no 'betta'; did you mean 'beta'?\n"
