"""Write docs/model_zoo.md, and the tables of each method's README, from model-index.yml, metafiles and configs.

    python tools/misc/make_model_zoo.py            # write
    python tools/misc/make_model_zoo.py --check    # exit code 1 if a page is out of date

One table for each collection and dataset. A row is one result of a model, or the model alone where there is none;
below the table stands where each figure is from. Backbone and dataset are read from the config, the rest from the
metafile; tools/analysis_tools/make_tables.py puts measured results there. The page has all collections; the README of
a collection has its own between ``<!-- zoo -->`` and ``<!-- /zoo -->``. Needs a checkout: an installed package has no
docs.
"""

import argparse
import os.path as osp
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from mmdml.utils.dataset_configs import dataset_name, leaf_datasets
from mmdml.utils.tables import markdown_table

PAGE = 'docs/model_zoo.md'
_BLOCK = re.compile(r'<!-- zoo -->\n.*?<!-- /zoo -->', flags=re.DOTALL)

INTRODUCTION = """# Model zoo

<!-- Written by tools/misc/make_model_zoo.py from the metafiles; edit those. -->

Every config, by method and dataset. A figure is either quoted from a **paper** or its release, with the table where it
is known, or was **measured** with this code, with seeds, commit, hardware and command: the last epoch of each run, mean
± sample standard deviation over the seeds. All are in percent.
`mmdml.apis.get_model(NAME)` builds a model by the name in the first column, `get_model(NAME, pretrained=True)` with its
weights where a line below the table says that they come with the package."""


@dataclass(frozen=True)
class Model:
    """An entry of a metafile, with what only its config says."""

    entry: dict[str, Any]
    dataset: str
    backbone: str

    @property
    def results(self) -> list[dict[str, Any]]:
        return self.entry.get('Results') or []

    def metadata(self, key: str) -> str:
        """Return an entry of ``Metadata``.

        Raises:
            ValueError: if it is not there.
        """
        if key not in (self.entry.get('Metadata') or {}):
            raise ValueError(f'{self.entry["Name"]}: its metafile entry has no "{key}" under Metadata')
        return str(self.entry['Metadata'][key])


def backbone_name(config: dict[str, Any]) -> str:
    """Type of a backbone without its scope, with depth, architecture or name; of what it wraps, too.

    >>> backbone_name(dict(type='mmpretrain.ResNet', depth=50))
    'ResNet-50'
    """
    keys = ('depth', 'arch', 'model_name')
    parts = [config['type'].rpartition('.')[2], *(str(config[key]) for key in keys if key in config)]
    name = '-'.join(parts)
    return f'{name} ({backbone_name(config["backbone"])})' if 'backbone' in config else name


def read_collections(root: Path) -> Iterator[tuple[dict[str, Any], list[Model]]]:
    """Each collection of the model index with its models."""
    for file in yaml.safe_load((root / 'model-index.yml').read_text(encoding='utf-8'))['Import']:
        content = yaml.safe_load((root / file).read_text(encoding='utf-8'))
        models = []
        for entry in content['Models']:
            config = Config.fromfile(root / entry['Config'])
            dataset = dataset_name(next(leaf_datasets(config.test_dataloader.dataset)))
            models.append(Model(entry, dataset, backbone_name(config.model.backbone)))
        yield content['Collections'][0], models


# ---- one table -------------------------------------------------------------------------------------------------------


def metric_order(name: str) -> tuple[bool, str, int]:
    """Recall at rising K before the others."""
    base, _, rank = name.partition('@')
    return (base != 'Recall', base, int(rank) if rank.isdigit() else 0)


def render_value(result: dict[str, Any], metric: str) -> str:
    """Write a figure, with its deviation where there is one; empty where there is no figure."""
    value, std = result['Metrics'].get(metric), result.get('Std', {}).get(metric)
    if value is None:
        return ''
    return f'{value:.2f} ± {std:.2f}' if std is not None else str(value)


def render_source(result: dict[str, Any]) -> str:
    """Where a result is from, as it stands below the table."""
    if result['Source'] == 'paper':
        return f'Quoted {result.get("Note", "from a paper")}.'
    seeds = result['Seeds']
    parts = [
        f'Measured: {"seeds" if len(seeds) > 1 else "seed"} {", ".join(map(str, seeds))}',
        *(f'{count} updates' for count in result.get('Updates', [])),
        f'commit {result["Commit"]}',
        *([f'on {result["Hardware"]}'] if 'Hardware' in result else []),
        f'`{result["Command"]}`' + (' and likewise for the other seeds' if len(seeds) > 1 else ''),
    ]
    return ' '.join(['; '.join(parts) + '.', *([result['Note']] if 'Note' in result else [])])


def render_table(models: Sequence[Model], page: str) -> str:
    """Write the models of one collection and dataset, a row for each result, and the sources below.

    Args:
        models: with a line each, or one for each of their results.
        page: path of the file that the table is for, from which it links to configs.
    """
    results = [result for model in models for result in model.results]
    metrics = sorted({metric for result in results for metric in result['Metrics']}, key=metric_order)
    # Lists of one dataset, such as VehicleID's three, need a column; a dataset alone does not.
    several = not {result['Dataset'] for result in results} <= {model.dataset for model in models}
    headers = ['config', 'backbone', 'embedding size', 'batch', *(['test set'] if several else [])]
    lines = []
    sources: list[str] = []
    for model in models:
        name = f'[{model.entry["Name"]}]({osp.relpath(model.entry["Config"], osp.dirname(page))})'
        shared = [name, model.backbone, model.metadata('Embedding Size'), model.metadata('Batch Size')]
        for result in model.results:
            source = render_source(result)
            if source not in sources:
                sources.append(source)
            test = [result['Dataset']] if several else []
            kind = 'paper' if result['Source'] == 'paper' else '**measured**'
            figures = [render_value(result, metric) for metric in metrics]
            lines.append([*shared, *test, f'{kind} ({sources.index(source) + 1})', *figures])
        if not model.results:
            lines.append([*shared, *([''] if several else []), 'not run yet', *[''] * len(metrics)])
    table = markdown_table([*headers, 'figures', *metrics], lines, text_columns=len(headers) + 1)
    notes = [f'{number}. {source}' for number, source in enumerate(sources, 1)]
    shipped = [render_shipped(model.entry) for model in models if 'Shipped' in model.entry]
    return '\n'.join([table] + ([''] + notes if notes else []) + ([''] + shipped if shipped else []))


def render_shipped(entry: dict[str, Any]) -> str:
    """Say that weights of a model come with the package, and what they score."""
    shipped, (test, *_) = entry['Shipped'], entry['Shipped']['Tests']
    figures = ', '.join(f'{name} {test["Metrics"][name]:.2f}' for name in ('Recall@1', 'MAP@R'))
    return (
        f'- Weights of `{entry["Name"]}` come with the package ({shipped["Precision"]}, seed {shipped["Seed"]}, commit '
        f'{shipped["Commit"]}, SHA-256 {shipped["SHA256"][:8]}...): {figures} by `{test["Command"]}`.'
    )


# ---- the page --------------------------------------------------------------------------------------------------------


def validated(models: Sequence[Model]) -> str:
    """Say what was and what was never measured with this code."""
    having = [model for model in models if any(result['Source'] == 'measured' for result in model.results)]
    known = sorted({model.dataset for model in having}, key=str.lower)
    never = sorted({model.dataset for model in models} - set(known), key=str.lower)
    text = f'**Measured here:** {len(having)} of {len(models)} configs'
    text += f', on {", ".join(known)}.' if known else '.'
    if never:
        text += (
            f' **Never validated here:** every setting on {", ".join(never)}. There were neither the full benchmarks '
            'nor the ImageNet weights of their backbones; their figures are those of the papers.'
        )
    return text


def render_page(collections: Sequence[tuple[dict[str, Any], list[Model]]]) -> str:
    """Write the whole page."""
    blocks = [INTRODUCTION, validated([model for _, models in collections for model in models])]
    for collection, models in collections:
        blocks.append(f'## {collection["Name"]}\n\nSee [{collection["README"]}](../{collection["README"]}).')
        blocks += render_tables(models, PAGE, f'{collection["Name"]}: ')
    return '\n\n'.join(blocks) + '\n'


def render_tables(models: Sequence[Model], page: str, prefix: str = '') -> Iterator[str]:
    """Write a heading and a table for each dataset of one collection."""
    for dataset in sorted({model.dataset for model in models}, key=str.lower):
        table = render_table([model for model in models if model.dataset == dataset], page)
        yield f'### {prefix}{dataset}\n\n{table}'


def fill_readme(text: str, models: Sequence[Model], page: str) -> str:
    """Put the tables of a collection between the markers of its README.

    Raises:
        ValueError: if the README has no markers, or more than two.
    """
    if text.count('<!-- zoo -->') != 1 or len(_BLOCK.findall(text)) != 1:
        raise ValueError(f'{page} must have one line "<!-- zoo -->" and after it one "<!-- /zoo -->" for its tables')
    tables = '\n\n'.join(render_tables(models, page))
    return _BLOCK.sub(lambda _: f'<!-- zoo -->\n\n{tables}\n\n<!-- /zoo -->', text)


def render(root: Path) -> dict[str, str]:
    """Return the right content of the page and of the README of each collection, by path.

    Raises:
        FileNotFoundError: if the project has no docs.
        ValueError: see `fill_readme`.
    """
    if not (root / PAGE).parent.is_dir():
        raise FileNotFoundError(
            f'there is no {(root / PAGE).parent}: the page is made in a checkout of mmdml, not in an installed '
            'package. Call the script of the checkout, or name the checkout by --root'
        )
    collections = list(read_collections(root))
    pages = {PAGE: render_page(collections)}
    for collection, models in collections:
        path = collection['README']
        pages[path] = fill_readme((root / path).read_text(encoding='utf-8'), models, path)
    return pages


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the pages; exit code 1 if a check failed, 2 for a faulty file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='write nothing; exit code 1 if a page is out of date')
    root = Path(__file__).resolve().parents[2]
    parser.add_argument('--root', type=Path, default=root, help='folder of the project')
    args = parser.parse_args(arguments)
    try:
        pages = render(args.root)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    outdated = False
    for name, text in pages.items():
        path = args.root / name
        if path.exists() and path.read_text(encoding='utf-8') == text:
            continue
        outdated = True
        print(f'{"out of date" if args.check else "written"}: {path}')
        if not args.check:
            path.write_text(text, encoding='utf-8')
    return int(args.check and outdated)


if __name__ == '__main__':
    sys.exit(main())
