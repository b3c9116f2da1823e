"""What the pages show works: config snippets are read, files and links that they name are there."""

import ast
import re
from pathlib import Path

import mmengine.registry
import nbformat
import pytest
from mmengine.config import Config
from mmengine.registry import Registry
from nbclient import NotebookClient
from tiny import REPO

import mmdml.datasets
import mmdml.engine
import mmdml.evaluation.metrics
import mmdml.models  # noqa: F401
from mmdml import registry

ROOT = Path(REPO)
PAGES = sorted(
    path
    for pattern in ('*.md', 'docs/**/*.md', 'configs/**/*.md', 'projects/**/*.md')
    for path in ROOT.glob(pattern)
    if path.name != 'CHANGELOG.md'
)
REGISTRIES = [
    value for space in (registry, mmengine.registry) for value in vars(space).values() if isinstance(value, Registry)
]


def snippets(page):
    return re.findall(r'```python\n(.*?)```', page.read_text(encoding='utf-8'), flags=re.DOTALL)


def name(page):
    return str(page.relative_to(ROOT))


CONFIGS = [(page, text) for page in PAGES for text in snippets(page) if re.search(r'^_base_ =', text, re.MULTILINE)]
PARTS = [
    (page, text)
    for page in PAGES
    for text in snippets(page)
    if 'type=' in text and '_base_' not in text and 'import ' not in text
]


def types_in(value):
    """Every ``type`` in a config, however deep."""
    if isinstance(value, dict):
        if isinstance(value.get('type'), str):
            yield value['type']
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from types_in(part)


def assert_registered(config):
    names = set(types_in(config))
    assert names
    assert [each for each in sorted(names) if not any(group.get(each) for group in REGISTRIES)] == []


@pytest.mark.parametrize(('page', 'text'), CONFIGS, ids=[name(page) for page, _ in CONFIGS])
def test_every_config_of_a_page_is_read_and_names_registered_parts(page, text, tmp_path, monkeypatch):
    if name(page).startswith('projects/'):
        monkeypatch.syspath_prepend(page.parent)
    (tmp_path / 'mine.py').write_text(text)
    assert_registered(Config.fromfile(tmp_path / 'mine.py').to_dict())


@pytest.mark.parametrize(('page', 'text'), PARTS, ids=[name(page) for page, _ in PARTS])
def test_every_part_of_a_config_on_a_page_is_registered(page, text):
    ast.parse(text)
    names = re.findall(r"type='([\w.]+)'", text)
    assert [each for each in names if not any(group.get(each) for group in REGISTRIES)] == []


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_every_file_that_a_page_names_is_there(page):
    text = page.read_text(encoding='utf-8')
    named = set(
        re.findall(r'(?<![\w./-])((?:configs|tools|experiments|benchmarks|tests)/[\w./-]+\.(?:py|yml|csv|sh))', text)
    )
    assert [file for file in sorted(named) if not (ROOT / file).exists()] == []
    bases = set(re.findall(r"'mmdml::([\w./-]+\.py)'", text))
    assert [file for file in sorted(bases) if not (ROOT / 'configs' / file).exists()] == []


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_every_link_of_a_page_leads_somewhere(page):
    text = re.sub(r'```.*?```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)
    for link in re.findall(r'\]\(([^)\s]+)\)', text):
        if '://' in link or link.startswith('mailto:'):
            continue
        file, _, anchor = link.partition('#')
        target = (page.parent / file) if file else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r'^#+ (.+)$', target.read_text(encoding='utf-8'), flags=re.MULTILINE)
            anchors = {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}
            assert anchor in anchors, link


def shown_by(notebook):
    """Kinds and text of what the cells return, without warnings that another machine may have."""
    cells = [cell.outputs for cell in notebook.cells if cell.cell_type == 'code']
    shown = [[output['data'] for output in outputs if 'data' in output] for outputs in cells]
    return [[(sorted(data), data.get('text/plain')) for data in outputs] for outputs in shown]


@pytest.mark.slow
@pytest.mark.parametrize('path', sorted(ROOT.glob('docs/notebooks/*.ipynb')), ids=lambda path: path.name)
def test_every_notebook_runs_and_shows_what_it_keeps(path):
    notebook = nbformat.read(path, as_version=4)
    kept = shown_by(notebook)
    NotebookClient(notebook, timeout=300, resources={'metadata': {'path': str(path.parent)}}).execute()
    assert all(kept) and shown_by(notebook) == kept
