"""model-index.yml, metafiles, configs and losses of this project agree; and the linter sees it where they do not."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

from mmdml.utils.dataset_configs import dataset_name, leaf_datasets

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location('lint_metafiles', ROOT / 'tools/misc/lint_metafiles.py')
linter = importlib.util.module_from_spec(spec)
spec.loader.exec_module(linter)


def test_model_index_imports_every_metafile():
    assert linter.lint_index(ROOT) == []


def test_every_metafile_is_complete():
    files = linter.metafiles(ROOT)
    assert files != []
    assert [problem for file in files for problem in linter.lint_metafile(ROOT, file)] == []


def test_every_config_has_a_metafile_entry():
    assert linter.configs(ROOT) != []
    assert linter.lint_configs(ROOT) == []


def test_configs_and_their_models_are_called_by_the_scheme():
    assert linter.lint_names(ROOT) == []


def test_every_config_has_a_figure_or_a_plan():
    assert linter.lint_figures(ROOT) == []


def test_every_loss_has_file_export_config_and_metafile_entry():
    assert linter.lint_losses(ROOT) == []


def letters(text):
    return re.sub('[^a-z]', '', text.lower())


@pytest.mark.parametrize('file', linter.metafiles(ROOT), ids=str)
def test_data_networks_and_optimizers_of_a_collection_are_those_of_its_configs(file):
    content = yaml.safe_load((ROOT / file).read_text(encoding='utf-8'))
    said = content['Collections'][0]['Metadata']
    data, networks, optimizers = set(), set(), set()
    for model in content['Models']:
        config = Config.fromfile(ROOT / model['Config'])
        data |= {dataset_name(each) for each in leaf_datasets(config.train_dataloader.dataset)}
        backbone = config.model.backbone
        backbone = backbone.get('backbone', backbone)
        name = backbone.type.rpartition('.')[2]
        networks.add({'TimmModel': 'visiontransformer'}.get(name, letters(name)))
        optimizers.add(config.optim_wrapper.optimizer.type)
    assert sorted(said['Training Data']) == sorted(data)
    if networks != {'identity'}:  # features, of any
        assert {letters(each) for each in said['Architecture']} == networks
    assert [each for each in said['Training Techniques'] if each.startswith('Adam')] == sorted(optimizers)


# ---- the linter itself ----


def good_metafile():
    """A metafile without fault for the project below."""
    measured = {
        'Task': 'Image Retrieval',
        'Dataset': 'Omniglot',
        'Metrics': {'Recall@1': 80.5},
        'Source': 'measured',
        'Command': 'python tools/train.py configs/m/contrastive.py',
        'Commit': 'abcdef123456+dirty, 0123456789ab',
        'Seeds': [0, 1],
        'Hardware': '2 x CPU',
    }
    paper = {
        'Task': 'Image Retrieval',
        'Dataset': 'Omniglot (small)',
        'Metrics': {'Recall@1': 60},
        'Source': 'paper',
        'Note': 'from the paper, Table I',
    }
    config = 'configs/m/contrastive.py'
    return {
        'Collections': [
            {
                'Name': 'M',
                'Metadata': {'Architecture': ['Conv4']},
                'Paper': {'URL': 'https://example.org', 'Title': 'T'},
                'README': 'configs/m/README.md',
            }
        ],
        'Models': [{'Name': 'm', 'In Collection': 'M', 'Config': config, 'Results': [measured, paper]}],
    }


@pytest.fixture
def project(tmp_path):
    """A small project that uses one of the package's losses."""
    (tmp_path / 'configs/m').mkdir(parents=True)
    (tmp_path / 'configs/m/README.md').write_text('# M\n')
    (tmp_path / 'configs/m/contrastive.py').write_text(
        "model = dict(heads=[dict(type='mmdml.ContrastiveLoss')])\n"
        "test_dataloader = dict(dataset=dict(type='Omniglot'))\n"
    )
    (tmp_path / 'model-index.yml').write_text('Import:\n  - configs/m/metafile.yml\n')
    write(tmp_path, good_metafile())
    return tmp_path


def write(project, content):
    (project / 'configs/m/metafile.yml').write_text(yaml.safe_dump(content))


def test_a_correct_metafile_passes(project):
    assert linter.lint_index(project) == []
    assert linter.lint_metafile(project, Path('configs/m/metafile.yml')) == []
    assert linter.lint_configs(project) == []


def set_in(*path):
    """A change of the good metafile: the last entry of ``path`` is put where the others lead; ... removes it."""
    *keys, last, value = path

    def change(content):
        for key in keys:
            content = content[key]
        if value is ...:
            del content[last]
        else:
            content[last] = value

    return change


MODEL = ('Models', 0)
MEASURED = (*MODEL, 'Results', 0)


@pytest.mark.parametrize(
    'change, complaint',
    [
        (set_in('Collections', [{'Name': 'M'}, {'Name': 'N'}]), 'one collection per file, got 2'),
        (set_in('Collections', 0, 'Paper', 'URL', ''), 'Paper: URL is missing'),
        (set_in('Collections', 0, 'Metadata', ...), 'collection: Metadata is missing'),
        (set_in('Collections', 0, 'README', 'configs/m/nothing.md'), 'README configs/m/nothing.md does not exist'),
        (set_in(*MODEL, 'In Collection', 'N'), 'In Collection is N, but the collection is called M'),
        (set_in(*MODEL, 'Config', 'configs/m/x.py'), 'Config configs/m/x.py does not exist'),
        (set_in(*MODEL, 'Name', ...), 'Name is missing'),
        (set_in(*MEASURED, 'Task', ...), 'result 0: Task is missing'),
        (set_in(*MEASURED, 'Metrics', {}), 'result 0: Metrics is missing'),
        (set_in(*MEASURED, 'Metrics', 'Recall@1', 'high'), "metric Recall@1 must be a number, got 'high'"),
        (set_in(*MEASURED, 'Source', 'guessed'), "Source must be paper or measured, got 'guessed'"),
        (set_in(*MEASURED, 'Command', ...), 'result 0: Command is missing'),
        (set_in(*MEASURED, 'Commit', 'unknown'), "Commit 'unknown' is no git commit"),
        (set_in(*MEASURED, 'Seeds', []), 'result 0: Seeds is missing'),
        (
            set_in(*MEASURED, 'Dataset', 'CUB200'),
            "Dataset 'CUB200' must begin with what the config tests on, ['Omniglot']",
        ),
        (set_in(*MEASURED, 'Hardware', ...), 'result 0: Hardware is missing'),
        (set_in(*MODEL, 'Results', 1, 'Source', ...), 'result 1: Source is missing'),
        (set_in(*MODEL, 'Results', 1, 'Note', ...), 'result 1: Note is missing'),
        (set_in('Models', good_metafile()['Models'] * 2), 'Config configs/m/contrastive.py is used twice'),
    ],
)
def test_a_fault_is_named(project, change, complaint):
    content = good_metafile()
    change(content)
    write(project, content)
    problems = linter.lint_metafile(project, Path('configs/m/metafile.yml'))
    assert any(complaint in problem for problem in problems), problems


def test_a_set_of_photographs_is_called_by_its_name(project):
    config = "test_dataloader = dict(dataset=dict(type='ImageList', data_root='data/cars196_trainhalf'))\n"
    (project / 'configs/m/contrastive.py').write_text(config)
    content = good_metafile()
    for name, fault in (('Cars196 (half)', False), ('Cars196', True), ('ImageList', True)):
        for result in content['Models'][0]['Results']:
            result['Dataset'] = name
        write(project, content)
        problems = linter.lint_metafile(project, Path('configs/m/metafile.yml'))
        assert any("must begin with what the config tests on, ['Cars196 (half)']" in each for each in problems) == fault


def test_a_config_that_does_not_parse_is_named(project):
    (project / 'configs/m/contrastive.py').write_text("_base_ = ['nothing.py']\n")
    (problem,) = linter.lint_metafile(project, Path('configs/m/metafile.yml'))
    assert 'configs/m/contrastive.py does not parse: ' in problem


def test_a_metafile_outside_the_index_and_an_import_of_nothing_are_named(project):
    (project / 'model-index.yml').write_text('Import:\n  - configs/other/metafile.yml\n')
    assert linter.lint_index(project) == [
        'model-index.yml: Import configs/other/metafile.yml is no file',
        'model-index.yml does not import configs/m/metafile.yml',
    ]


def test_a_config_without_metafile_entry_is_named(project):
    (project / 'configs/m/new.py').write_text('x = 1\n')
    assert linter.lint_configs(project) == ['configs/m/new.py is in no metafile']


@pytest.mark.parametrize(
    'name, complaint',
    [
        ('iaa_ms_r50_cub', None),
        ('ms_r50_cub_paper', None),
        ('dc-k4-warmup_n-pairs_vit-small-dino_cub_val', None),
        ('r50_cub', 'no two fields after the loss are a backbone of'),
        ('ms_cub_r50', 'no two fields after the loss are a backbone of'),
        ('ms_r50_cub200', "and a dataset of ['cub']"),
        ('n_pairs__r50_cub', "fields have a-z, 0-9 and single - inside, got ['']"),
        ('N-Pairs_r50_cub', "got ['N-Pairs']"),
        ('ms-_r50_cub', "got ['ms-']"),
    ],
)
def test_a_config_outside_the_scheme_is_named(tmp_path, name, complaint):
    for path in ('_base_/models/r50.py', '_base_/models/vit-small-dino.py', '_base_/datasets/cub.py', f'm/{name}.py'):
        (tmp_path / 'configs' / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'configs' / path).touch()
    problems = linter.lint_names(tmp_path)
    if complaint is None:
        assert problems == []
    else:
        assert len(problems) == 1 and f'configs/m/{name}.py: ' in problems[0] and complaint in problems[0]


def test_a_model_that_is_called_unlike_its_config_is_named(project):
    (problem,) = (each for each in linter.lint_names(project) if 'metafile' in each)
    assert problem.endswith('model m must have the name of its config configs/m/contrastive.py')


def test_a_config_without_figure_and_plan_is_named(project):
    assert linter.lint_figures(project) == []
    content = good_metafile()
    del content['Models'][0]['Results']
    write(project, content)
    (problem,) = linter.lint_figures(project)
    assert problem.startswith('configs/m/contrastive.py has no result and is in no plan')
    (project / 'experiments').mkdir()
    (project / 'experiments/plan.yml').write_text('items: [{name: m, config: configs/m/contrastive.py, seeds: [0]}]')
    assert linter.lint_figures(project) == []


def test_a_loss_without_config_or_without_metafile_entry_is_named(project):
    problems = linter.lint_losses(project)
    assert not any(': ContrastiveLoss ' in problem for problem in problems)
    assert 'mmdml.models.losses: TripletLoss is used by no config under configs/' in problems
    (project / 'configs/m/triplet.py').write_text("loss = dict(type='TripletLoss')\n")
    (problem,) = (problem for problem in linter.lint_losses(project) if ': TripletLoss ' in problem)
    assert problem.endswith('is used by configs/m/triplet.py, but no config with it has a metafile entry')


def test_a_loss_that_the_package_does_not_export_is_named(project, monkeypatch):
    import mmdml.models.losses as losses

    monkeypatch.setattr(losses, '__all__', [name for name in losses.__all__ if name != 'ContrastiveLoss'])
    assert 'mmdml.models.losses: ContrastiveLoss is missing in __init__ and its __all__' in linter.lint_losses(project)
