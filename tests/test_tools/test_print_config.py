import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / 'tools/misc/print_config.py'


def test_prints_the_merged_config_that_reads_back_equal(tmp_path):
    (tmp_path / 'base.py').write_text('model = dict(a=1, b=dict(c=2))\n')
    (tmp_path / 'config.py').write_text("_base_ = ['base.py']\nmodel = dict(b=dict(d=3))\n")
    command = [sys.executable, SCRIPT, tmp_path / 'config.py', '--cfg-options', 'model.a=[4,5]', 'model.b.c=None']
    environment = {'PYTHONPATH': str(SCRIPT.parents[2]), 'PATH': ''}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    values = {}
    exec(printed, values)
    assert values['model'] == {'a': [4, 5], 'b': {'c': None, 'd': 3}}


def test_a_misspelt_key_is_refused_as_training_would(tmp_path):
    (tmp_path / 'config.py').write_text('train_dataloder = dict()\n')
    environment = {'PYTHONPATH': str(SCRIPT.parents[2]), 'PATH': ''}
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / 'config.py'], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1 and 'train_dataloader' in done.stderr
