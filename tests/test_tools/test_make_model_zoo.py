"""The zoo page of this project is up to date; and what it says of a small project."""

import importlib.util
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location('make_model_zoo', ROOT / 'tools/misc/make_model_zoo.py')
make_model_zoo = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_model_zoo)

CONFIG = """
model = dict(backbone=dict(type='mmpretrain.ResNet', depth=50))
test_dataloader = dict(dataset=dict(type='{dataset}'))
"""


def entry(name, *results):
    metadata = {'Embedding Size': 64, 'Batch Size': 32}
    return {'Name': name, 'Config': f'configs/m/{name}.py', 'Metadata': metadata, 'Results': list(results)}


def paper(dataset):
    return {'Dataset': dataset, 'Metrics': {'Recall@1': 50.5}, 'Source': 'paper', 'Note': 'from Table 3'}


MEASURED = {
    'Dataset': 'Omniglot',
    'Metrics': {'RP': 41, 'MAP@R': 40.0, 'Recall@10': 90.0, 'Recall@1': 80.12},
    'Std': {'Recall@1': 0.1},
    'Source': 'measured',
    'Seeds': [0, 1],
    'Updates': [2265],
    'Commit': 'abcdef1',
    'Hardware': 'a fast machine',
    'Command': 'python tools/train.py configs/m/a.py',
}


@pytest.fixture
def project(tmp_path):
    """Two Omniglot configs, one of them without a result, and one of VehicleID with two test lists."""
    (tmp_path / 'configs/m').mkdir(parents=True)
    for name, dataset in (('a', 'Omniglot'), ('b', 'mmdml.Omniglot'), ('c', 'VehicleID')):
        (tmp_path / f'configs/m/{name}.py').write_text(CONFIG.format(dataset=dataset))
    models = [
        entry('a', MEASURED, paper('Omniglot')),
        entry('b'),
        entry('c', paper('VehicleID (small)'), paper('VehicleID (large)')),
    ]
    content = {'Collections': [{'Name': 'M', 'README': 'configs/m/README.md'}], 'Models': models}
    (tmp_path / 'configs/m/metafile.yml').write_text(yaml.safe_dump(content))
    (tmp_path / 'model-index.yml').write_text('Import:\n  - configs/m/metafile.yml\n')
    (tmp_path / 'configs/m/README.md').write_text('# M\n\n<!-- zoo -->\nold\n<!-- /zoo -->\n\nAfter.\n')
    (tmp_path / 'docs').mkdir()
    return tmp_path


def page(project):
    return make_model_zoo.render(project)['docs/model_zoo.md']


def test_the_page_of_this_project_is_up_to_date():
    assert make_model_zoo.main(['--check']) == 0, 'run python tools/misc/make_model_zoo.py'


def test_a_table_tells_measured_figures_quoted_ones_and_none_apart(project):
    text = page(project)
    table = text[text.index('### M: Omniglot') : text.index('### M: VehicleID')].splitlines()
    assert table[2:] == [
        '| config | backbone | embedding size | batch | figures | Recall@1 | Recall@10 | MAP@R | RP |',
        '|:--|:--|:--|:--|:--|--:|--:|--:|--:|',
        '| [a](../configs/m/a.py) | ResNet-50 | 64 | 32 | **measured** (1) | 80.12 ± 0.10 | 90.0 | 40.0 | 41 |',
        '| [a](../configs/m/a.py) | ResNet-50 | 64 | 32 | paper (2) | 50.5 |  |  |  |',
        '| [b](../configs/m/b.py) | ResNet-50 | 64 | 32 | not run yet |  |  |  |  |',
        '',
        '1. Measured: seeds 0, 1; 2265 updates; commit abcdef1; on a fast machine; '
        '`python tools/train.py configs/m/a.py` and likewise for the other seeds.',
        '2. Quoted from Table 3.',
        '',
    ]


def test_several_test_lists_of_a_data_set_get_a_column_and_one_note_for_the_same_source(project):
    text = page(project)
    table = text[text.index('### M: VehicleID') :].splitlines()
    assert table[2] == '| config | backbone | embedding size | batch | test set | figures | Recall@1 |'
    assert [line.split(' | ')[4:6] for line in table[4:6]] == [
        ['VehicleID (small)', 'paper (1)'],
        ['VehicleID (large)', 'paper (1)'],
    ]
    assert table[6:] == ['', '1. Quoted from Table 3.']


def test_the_page_says_what_was_never_validated(project):
    text = page(project)
    assert '**Measured here:** 1 of 3 configs, on Omniglot.' in text
    assert '**Never validated here:** every setting on VehicleID.' in text


def test_an_entry_without_its_size_is_named(project):
    path = project / 'configs/m/metafile.yml'
    content = yaml.safe_load(path.read_text())
    del content['Models'][1]['Metadata']['Embedding Size']
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match='b: its metafile entry has no "Embedding Size" under Metadata'):
        page(project)


def test_check_writes_nothing_and_a_page_that_was_written_passes_it(project):
    arguments = ['--root', str(project)]
    assert make_model_zoo.main([*arguments, '--check']) == 1
    assert list((project / 'docs').iterdir()) == [] and 'old' in (project / 'configs/m/README.md').read_text()
    assert make_model_zoo.main(arguments) == 0
    assert make_model_zoo.main([*arguments, '--check']) == 0
    for page in (project / 'docs/model_zoo.md', project / 'configs/m/README.md'):
        right = page.read_text()
        page.write_text(right.replace('80.12', '99.99'))
        assert make_model_zoo.main([*arguments, '--check']) == 1
        assert make_model_zoo.main(arguments) == 0
        assert page.read_text() == right


def test_the_readme_of_a_collection_has_its_tables_with_links_from_there(project):
    assert make_model_zoo.main(['--root', str(project)]) == 0
    text = (project / 'configs/m/README.md').read_text()
    assert text.startswith('# M\n\n<!-- zoo -->\n\n### Omniglot\n\n| config |')
    assert '| [a](a.py) | ResNet-50 | 64 | 32 | **measured** (1) | 80.12 ± 0.10 |' in text
    assert text.endswith('1. Quoted from Table 3.\n\n<!-- /zoo -->\n\nAfter.\n')


@pytest.mark.parametrize('text', ['# M\n', '<!-- zoo -->\n', '<!-- zoo -->\n<!-- zoo -->\n<!-- /zoo -->\n'])
def test_a_readme_without_its_markers_is_named(project, capsys, text):
    (project / 'configs/m/README.md').write_text(text)
    assert make_model_zoo.main(['--root', str(project)]) == 2
    assert 'configs/m/README.md must have one line "<!-- zoo -->"' in capsys.readouterr().err


def test_what_is_to_be_said_of_a_measured_figure_stands_behind_its_source():
    text = make_model_zoo.render_source({**MEASURED, 'Note': 'To be measured again.'})
    assert text.endswith(
        '`python tools/train.py configs/m/a.py` and likewise for the other seeds. To be measured again.'
    )


def test_an_installed_package_without_docs_is_told_where_the_page_is_made(project, capsys):
    (project / 'docs').rmdir()
    assert make_model_zoo.main(['--root', str(project)]) == 2
    assert 'is made in a checkout of mmdml, not in an installed package' in capsys.readouterr().err
    assert not (project / 'docs').exists()
