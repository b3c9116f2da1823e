"""A model where a command takes pictures or a store is refused before any work, with the command to type."""

import pytest
from click.testing import CliRunner

from mmdml.apis.model_index import DEFAULT_IS, shipped_models
from mmdml.cli.main import main

MODEL = str(shipped_models()['ms_conv4_omniglot'])


@pytest.mark.parametrize(
    'typed, to_type',
    [
        (f'embed {MODEL} --out out', f'embed PICTURES --model {MODEL} --out out'),
        ('embed ms_conv4_omniglot --out out', 'embed PICTURES --model ms_conv4_omniglot --out out'),
        (f'index {MODEL} --store new.store', f'index PICTURES --model {MODEL} --store new.store'),
        (f'index photos --store {MODEL}', f'index PICTURES --store {MODEL.rpartition("/")[2]}.store --model {MODEL}'),
        (f'search {MODEL} --store my.store', f'search PICTURES --model {MODEL} --store my.store'),
        (
            f'search query.jpg --store {MODEL}',
            f'index PICTURES --store {MODEL.rpartition("/")[2]}.store --model {MODEL}',
        ),
        (f'serve {MODEL}', f'index PICTURES --store {MODEL.rpartition("/")[2]}.store --model {MODEL}'),
        (f'duplicates {MODEL}', f'duplicates PICTURES --model {MODEL}'),
        (f'test {MODEL}', f'test PICTURES --model {MODEL}'),
        (f'test {MODEL} --model photos', f'test PICTURES --model {MODEL}'),
        (f'train {MODEL}', f'train PICTURES --model {MODEL}'),
        ('test model.onnx', 'test PICTURES --model model.onnx'),
    ],
)
def test_the_error_has_the_command_to_type(typed, to_type, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'model.onnx').touch()
    done = CliRunner().invoke(main, typed.split(), prog_name='mmdml')
    assert done.exit_code == 1
    assert done.stderr.count('\n') == 1 and done.stderr.endswith(f': mmdml {to_type}\n'), done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ['model.onnx']


def test_a_folder_of_pictures_may_have_the_name_of_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT_IS).mkdir()
    done = CliRunner().invoke(main, ['embed', DEFAULT_IS, '--out', 'out'], prog_name='mmdml')
    assert done.stderr.startswith('error: there is no picture in ')
