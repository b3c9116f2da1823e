import configparser
import re
from pathlib import Path

import pytest

import mmdml

ROOT = Path(__file__).resolve().parents[2]


def constraints() -> dict[str, str]:
    lines = (ROOT / 'constraints.txt').read_text().splitlines()
    return dict(line.lower().split('==') for line in lines if line and not line.startswith('#'))


def requirement_names(extra: str | None = None) -> set[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    text = setup['options']['install_requires'] if extra is None else setup['options.extras_require'][extra]
    return {re.match(r'[\w-]+', line).group().lower() for line in text.split()}


def test_every_requirement_and_test_requirement_is_pinned_to_one_version():
    assert len(requirement_names()) >= 10
    assert requirement_names() | requirement_names('tests') <= set(constraints())


def test_constraints_name_public_versions_and_one_opencv():
    assert not [version for version in constraints().values() if '+' in version]
    assert [name for name in constraints() if name.startswith('opencv')] == ['opencv-python']


@pytest.mark.parametrize('name', ['ruff', 'import-linter', 'codespell'])
def test_pre_commit_runs_the_pinned_linters(name):
    versions = re.findall(rf'{name}==([\d.]+)', (ROOT / '.pre-commit-config.yaml').read_text())
    assert versions and set(versions) == {constraints()[name]}


@pytest.mark.parametrize('command', ['ruff check .', 'ruff format --check .', 'lint-imports', 'codespell'])
def test_continuous_integration_runs_every_linter(command):
    assert command in (ROOT / '.ci/run').read_text().splitlines()


def test_every_extra_leads_somewhere():
    """An extra is named in the README, the docs or a message of the code, so that somebody can find it."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    places = [ROOT / 'README.md', *ROOT.glob('docs/*.md'), *ROOT.glob('mmdml/**/*.py'), *ROOT.glob('configs/**/*.py')]
    text = '\n'.join(place.read_text(encoding='utf-8') for place in places)
    unnamed = {
        name
        for name, packages in setup['options.extras_require'].items()
        if f"'.[{name}]'" not in text and f"'mmdml[{name}]'" not in text and packages.split()[0] not in text
    }
    assert unnamed == set()


def test_citation_changelog_and_package_agree_on_the_version():
    citation = re.search(r'^version: (.+)$', (ROOT / 'CITATION.cff').read_text(), re.MULTILINE).group(1)
    newest = re.search(r'^## ([\d.]+)', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE).group(1)
    assert citation == newest == mmdml.__version__


def test_the_readme_holds_the_test_command_that_continuous_integration_runs():
    lines = (ROOT / 'README.md').read_text().splitlines()
    start = lines.index('<!-- test-command -->')
    assert lines[start + 1].startswith('```')
    block = lines[start + 2 : lines.index('```', start + 2)]
    assert [line for line in block if line.split()[:1] == ['pytest']]
