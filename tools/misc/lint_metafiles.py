"""Check model-index.yml, all metafiles, and that configs, metafiles and losses agree.

python tools/misc/lint_metafiles.py      # prints what is wrong; exit code 1 if anything is
"""

import argparse
import functools
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

_COMMIT = re.compile(r'[0-9a-f]{7,40}(\+dirty)?')
_FIELD = re.compile(r'[a-z0-9]+(-[a-z0-9]+)*')


def _missing(mapping: Any, keys: Sequence[str], where: str) -> Iterator[str]:
    """Yield a complaint for each key that is absent or empty."""
    if not isinstance(mapping, dict):
        yield f'{where}: expected a mapping with {", ".join(keys)}, got {mapping!r}'
        return
    yield from (f'{where}: {key} is missing' for key in keys if mapping.get(key) in (None, '', [], {}))


def lint_index(root: Path) -> list[str]:
    """``model-index.yml`` imports every metafile, and only what is there."""
    path = root / 'model-index.yml'
    if not path.exists():
        return [f'{path} is missing']
    imports = (yaml.safe_load(path.read_text(encoding='utf-8')) or {}).get('Import') or []
    listed = [root / file for file in imports]
    problems = [f'model-index.yml: Import {each} is no file' for each in imports if not (root / each).is_file()]
    problems += [f'model-index.yml does not import {file}' for file in metafiles(root) if root / file not in listed]
    problems += [f'model-index.yml imports {file} twice' for file in sorted(set(listed)) if listed.count(file) > 1]
    return problems


def metafiles(root: Path) -> list[Path]:
    """Metafiles of a project, relative to its root."""
    return sorted(path.relative_to(root) for path in root.glob('configs/*/metafile.yml'))


def lint_metafile(root: Path, file: Path) -> list[str]:
    """One collection with its paper and README; models with configs that parse and results that say where from."""
    content = yaml.safe_load((root / file).read_text(encoding='utf-8'))
    problems = list(_missing(content, ('Collections', 'Models'), str(file)))
    if problems:
        return problems
    if len(content['Collections']) != 1:
        return [f'{file}: one collection per file, got {len(content["Collections"])}']
    collection = content['Collections'][0]
    problems += _missing(collection, ('Name', 'Metadata', 'Paper', 'README'), f'{file}: collection')
    # A collection of baselines rests on several papers.
    papers = collection.get('Paper') or []
    for paper in papers if isinstance(papers, list) else [papers]:
        problems += _missing(paper, ('URL', 'Title'), f'{file}: Paper')
    if collection.get('README') and not (root / collection['README']).exists():
        problems.append(f'{file}: README {collection["README"]} does not exist')
    for model in content['Models']:
        problems += lint_model(root, model, collection.get('Name'), f'{file}: model {model.get("Name")}')
    for key in ('Name', 'Config'):
        values = [model.get(key) for model in content['Models']]
        problems += [f'{file}: {key} {value} is used twice' for value in sorted(set(values)) if values.count(value) > 1]
    return problems


def lint_model(root: Path, model: dict[str, Any], collection: str | None, where: str) -> list[str]:
    """One entry of ``Models``. It may have no results yet; those that it has must be complete."""
    problems = list(_missing(model, ('Name', 'In Collection', 'Config'), where))
    if problems:
        return problems
    if model['In Collection'] != collection:
        problems.append(
            f'{where}: In Collection is {model["In Collection"]}, but the collection is called {collection}'
        )
    if not (root / model['Config']).exists():
        problems.append(f'{where}: Config {model["Config"]} does not exist')
    else:
        problems += lint_config(root / model['Config'], model, where)
    for number, result in enumerate(model.get('Results') or []):
        problems += lint_result(result, f'{where}: result {number}')
    return problems


def lint_config(path: Path, model: dict[str, Any], where: str) -> list[str]:
    """Check that the config can be read, and that the results name the dataset that it tests on."""
    from mmdml.utils.dataset_configs import dataset_name, leaf_datasets

    try:
        config = read_config(path)
    except Exception as error:  # a config is a program: anything may go wrong in it
        return [f'{where}: Config {model["Config"]} does not parse: {type(error).__name__}: {error}']
    if 'test_dataloader' not in config:
        return []
    tested = {dataset_name(dataset) for dataset in leaf_datasets(config.test_dataloader.dataset)}
    called = [str(result.get('Dataset')) for result in model.get('Results') or []]
    return [
        f'{where}: Dataset {name!r} must begin with what the config tests on, {sorted(tested)}'
        for name in called
        if name not in tested and name.rpartition(' (')[0] not in tested
    ]


def lint_result(result: dict[str, Any], where: str) -> list[str]:
    """One entry of ``Results``: a measured one must say what to type, at which commit, with which seeds, on what.

    One from a paper must say from where: the table, if it is known.
    """
    problems = list(_missing(result, ('Task', 'Dataset', 'Metrics', 'Source'), where))
    if problems:
        return problems
    for name, value in result['Metrics'].items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            problems.append(f'{where}: metric {name} must be a number, got {value!r}')
    if result['Source'] not in ('paper', 'measured'):
        problems.append(f'{where}: Source must be paper or measured, got {result["Source"]!r}')
    if result['Source'] == 'paper':
        problems += _missing(result, ('Note',), where)
    if result['Source'] == 'measured':
        problems += _missing(result, ('Command', 'Commit', 'Seeds', 'Hardware'), where)
        commits = str(result.get('Commit') or '').replace(',', ' ').split()
        problems += [f'{where}: Commit {each!r} is no git commit' for each in commits if not _COMMIT.fullmatch(each)]
        if not all(isinstance(seed, int) for seed in result.get('Seeds') or []):
            problems.append(f'{where}: Seeds must be integers, got {result["Seeds"]!r}')
    return problems


# ---- agreement between configs, metafiles and losses -----------------------------------------------------------------


def configs(root: Path) -> list[Path]:
    """Configs of a project that give figures, relative to its root; those in ``recommended`` are for one's own data."""
    paths = (path.relative_to(root) for path in root.glob('configs/*/*.py'))
    return sorted(path for path in paths if path.parts[1] not in ('_base_', 'recommended'))


def listed_configs(root: Path) -> set[Path]:
    """Configs that some metafile lists."""
    contents = (yaml.safe_load((root / file).read_text(encoding='utf-8')) or {} for file in metafiles(root))
    return {Path(model['Config']) for content in contents for model in content.get('Models') or [] if 'Config' in model}


def lint_configs(root: Path) -> list[str]:
    """Every config that can be run has a metafile entry."""
    listed = listed_configs(root)
    return [f'{config} is in no metafile' for config in configs(root) if config not in listed]


def lint_names(root: Path) -> list[str]:
    """Check that configs are called ``[method_]loss_backbone_dataset[_variant].py``, and their models as they are.

    Fields are parted by ``_``; backbone and dataset are files of ``configs/_base_``.
    """
    models, datasets = (
        {path.stem for path in root.glob(f'configs/_base_/{part}/*.py')} for part in ('models', 'datasets')
    )
    problems = []
    for config in configs(root):
        fields = config.stem.split('_')
        odd = [field for field in fields if not _FIELD.fullmatch(field)]
        pairs = list(zip(fields[1:], fields[2:], strict=False))
        if odd:
            problems.append(f'{config}: fields have a-z, 0-9 and single - inside, got {odd}')
        elif not any(backbone in models and dataset in datasets for backbone, dataset in pairs):
            problems.append(
                f'{config}: no two fields after the loss are a backbone of {sorted(models)} and a dataset of '
                f'{sorted(datasets)}'
            )
    for file in metafiles(root):
        for model in (yaml.safe_load((root / file).read_text(encoding='utf-8')) or {}).get('Models') or []:
            if 'Config' in model and model.get('Name') != Path(model['Config']).stem:
                problems.append(f'{file}: model {model.get("Name")} must have the name of its config {model["Config"]}')
    return problems


def lint_figures(root: Path) -> list[str]:
    """Check that every config has a figure in its metafile, or is in a plan under ``experiments`` to measure it."""
    plans = (yaml.safe_load(path.read_text(encoding='utf-8')) or {} for path in root.glob('experiments/*.yml'))
    planned = {item['config'] for plan in plans for item in plan.get('items') or []}
    contents = (yaml.safe_load((root / file).read_text(encoding='utf-8')) or {} for file in metafiles(root))
    return [
        f'{model["Config"]} has no result and is in no plan under experiments/: measure it, or turn it into a list of '
        'bases (configs/README.md)'
        for content in contents
        for model in content.get('Models') or []
        if not model.get('Results') and model['Config'] not in planned
    ]


def read_config(path: Path) -> Any:
    """Read a config, once while the file does not change: several checks need it."""
    return _read_config(path, path.stat().st_mtime_ns)


@functools.cache
def _read_config(path: Path, changed: int) -> Any:
    from mmengine.config import Config

    return Config.fromfile(path)


def types_used(value: Any) -> set[str]:
    """Every ``type`` in a config, without its scope."""
    if isinstance(value, dict):
        own = {value['type'].rpartition('.')[2]} if isinstance(value.get('type'), str) else set()
        return own.union(*map(types_used, value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*map(types_used, value))
    return set()


def registered_classes(package: ModuleType) -> dict[str, type]:
    """Classes of a package that are registered in ``mmdml.registry.MODELS``, also those its ``__init__`` forgets."""
    from mmdml.registry import MODELS

    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):
        importlib.import_module(module.name)
    inside = package.__name__ + '.'
    return {
        name: part
        for name, part in MODELS.module_dict.items()
        if inspect.isclass(part) and part.__module__.startswith(inside)
    }


def lint_losses(root: Path, package: str = 'mmdml.models.losses') -> list[str]:
    """Check the four places of a loss: file, the package's ``__init__``, a config, and that config's metafile entry."""
    losses = importlib.import_module(package)
    used = {config: types_used(read_config(root / config).to_dict()) for config in configs(root)}
    listed = listed_configs(root)
    problems = []
    for name, loss in sorted(registered_classes(losses).items()):
        where = f'{package}: {name}'
        if name not in losses.__all__ or getattr(losses, name, None) is not loss:
            problems.append(f'{where} is missing in __init__ and its __all__')
        having = [config for config, types in used.items() if name in types]
        if not having:
            problems.append(f'{where} is used by no config under configs/')
        elif not listed.intersection(having):
            problems.append(f'{where} is used by {having[0]}, but no config with it has a metafile entry')
    return problems


def lint_all(root: Path) -> list[str]:
    """All complaints about a project, empty if there are none."""
    problems = lint_index(root)
    for file in metafiles(root):
        problems += lint_metafile(root, file)
    return problems + lint_configs(root) + lint_names(root) + lint_figures(root) + lint_losses(root)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print every complaint; the exit code says whether there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, default=Path(__file__).resolve().parents[2], help='folder of the project')
    problems = lint_all(parser.parse_args(arguments).root)
    print('\n'.join(problems) or 'model-index.yml, metafiles, configs and losses agree')
    return int(bool(problems))


if __name__ == '__main__':
    sys.exit(main())
