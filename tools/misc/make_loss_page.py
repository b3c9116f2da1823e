"""Write docs/loss_reference.md: what each loss needs, its formula, paper, options, miners, cost and configs.

    python tools/misc/make_loss_page.py            # write
    python tools/misc/make_loss_page.py --check    # exit code 1 if the page is out of date

All of it comes from the registry and docstrings of the losses, what they do with a small batch, the metafiles, and the
measured table of docs/benchmarks/losses.md. Needs a checkout: an installed package has no docs.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.nn.functional import normalize

import mmdml.models  # noqa: F401
from mmdml.models.losses import Loss, PairLoss, ProxyLoss
from mmdml.registry import MODELS, TASK_UTILS
from mmdml.structures import PairBatch
from mmdml.utils.tables import markdown_table

PAGE = 'docs/loss_reference.md'
INTRODUCTION = """# Loss reference

<!-- Written by tools/misc/make_loss_page.py from docstrings, metafiles and measured costs; edit those. -->

Every loss of mmdml. Where to start: [Which loss for which data](losses.md#which-loss-for-which-data); all of them
measured by one recipe: [Side by side](losses.md#side-by-side-on-saved-features)."""

_MATH = re.compile(r'\.\. math:: ?((?:.*\n?)(?:(?: {4}.*)?\n)*)')
_ROLES = (
    (re.compile(r':math:`(.*?)`', re.DOTALL), r'$\1$'),
    (re.compile(r':(?:class|func|meth|mod):`~?(.*?)`'), r'`\1`'),
)


def losses() -> list[type[Loss]]:
    """Return the registered losses of mmdml, by name."""
    found = {part for part in MODELS.module_dict.values() if inspect.isclass(part) and issubclass(part, Loss)}
    return sorted((part for part in found if part.__module__.startswith('mmdml.')), key=lambda part: part.__name__)


def miners() -> list[str]:
    """Return the names of the registered miners of mmdml."""
    parts = TASK_UTILS.module_dict.items()
    return sorted(
        name for name, part in parts if part.__module__.startswith('mmdml.models.miners') and 'PML' not in name
    )


def markdown(text: str) -> str:
    """Turn a docstring without its sections into markdown with formulas."""
    text = re.split(r'\n(?:Args|Raises|Attributes|Example|Config)s?:{1,2}\n', text)[0].rstrip() + '\n'

    def block(match: re.Match) -> str:
        lines = [line.strip() for line in match[1].strip().splitlines()]
        return '```math\n' + '\n'.join(lines) + '\n```\n\n'

    text = _MATH.sub(block, text)
    for pattern, replacement in _ROLES:
        text = pattern.sub(replacement, text)
    text = re.sub(r'\$[^$]*\$', lambda match: ' '.join(match[0].split()), text)
    return _unquoted(text)


def _unquoted(text: str) -> str:
    """Make ``name`` to `name` outside of fenced blocks."""
    parts = re.split(r'(```math\n.*?\n```)', text, flags=re.DOTALL)
    return ''.join(part if part.startswith('```') else part.replace('``', '`') for part in parts).strip()


def options(text: str) -> list[str]:
    """Return the lines of a list of the arguments."""
    section = re.search(r'\nArgs:\n(.*?)(?=\n\w+:{1,2}\n|\Z)', text, flags=re.DOTALL)
    if section is None:
        return []
    entries = re.split(r'\n(?= {4}\w+:)', '\n' + section[1])
    lines = []
    for entry in entries:
        name, _, rest = ' '.join(entry.split()).partition(': ')
        if name:
            lines.append(
                f'- `{name}`: {_unquoted(_ROLES[1][0].sub(_ROLES[1][1], _ROLES[0][0].sub(_ROLES[0][1], rest)))}'
            )
    return lines


def config_of(text: str) -> str:
    """Return the config of a docstring."""
    block = re.search(r'Config::\n\n(.*)', text, flags=re.DOTALL)
    return inspect.cleandoc(block[1]) if block else ''


def needs(loss: type[Loss]) -> str:
    """Say what data a loss learns from."""
    if issubclass(loss, ProxyLoss):
        return 'classes that are known when the model is built; one image of a class in a batch is enough'
    soft = '; also several or soft labels an image' if loss.soft_targets else ''
    return f'at least two images of a class in a batch{soft}'


def fitting_miners(loss: type[Loss]) -> str:
    """Name the miners whose tuples a loss takes, found out with a small batch."""
    if issubclass(loss, ProxyLoss):
        return 'none: all rows meet the proxies'
    torch.manual_seed(0)
    unit = normalize(torch.randn(12, 6), dim=1)
    pairs = PairBatch.from_embeddings(unit, torch.arange(12) // 3)
    built, fit = MODELS.build(dict(type=loss.__name__)), []
    for name in miners():
        try:
            built(pairs, TASK_UTILS.build(dict(type=name))(pairs))
            fit.append(name)
        except ValueError:
            continue
    if len(fit) == len(miners()):
        return 'all'
    return ', '.join(f'`{name}`' for name in fit) or 'none: it selects for itself'


def costs(root: Path) -> dict[str, str]:
    """Return measured times by name of the loss, at each batch size."""
    found: dict[str, list[str]] = {}
    for line in (root / 'docs/benchmarks/losses.md').read_text(encoding='utf-8').splitlines():
        cells = [cell.strip() for cell in line.strip('| ').split('|')]
        match = re.match(r'`(\w+)`$', cells[0])
        if match and len(cells) > 3 and cells[2].endswith('ms'):
            found.setdefault(match[1], []).append(f'{cells[2]} at B = {cells[1]}')
    return {name: ', '.join(parts) for name, parts in found.items()}


def users(root: Path) -> dict[str, list[str]]:
    """Return links to configs on Omniglot, with Recall@1 where it was measured, by type of the loss."""
    found: dict[str, list[str]] = {}
    for file in yaml.safe_load((root / 'model-index.yml').read_text(encoding='utf-8'))['Import']:
        content = yaml.safe_load((root / file).read_text(encoding='utf-8'))
        code = content['Collections'][0].get('Code') or {}
        for model in content['Models']:
            types = re.findall(r"loss=dict\(\s*type='(\w+)'", (root / model['Config']).read_text(encoding='utf-8'))
            if types and code and 'omniglot' in model['Name']:
                values = [_recall(result) for result in model.get('Results') or [] if result['Source'] == 'measured']
                value = f' (Recall@1 {values[0]} on Omniglot)' if values and values[0] else ''
                found.setdefault(types[0], []).append(f'[{model["Name"]}](../{model["Config"]}){value}')
    return found


def _recall(result: dict[str, Any]) -> float | None:
    return result['Metrics'].get('Recall@1')


def section(loss: type[Loss], cost: str | None, configs: Sequence[str]) -> str:
    """Write what the page has on one loss."""
    text = inspect.getdoc(loss)
    lines = [
        f'### {loss.__name__}',
        '',
        markdown(text),
        '',
        f'- needs: {needs(loss)}',
        f'- miners: {fitting_miners(loss)}',
    ]
    lines += [f'- cost, forward and backward on one core: {cost}'] if cost else []
    lines += [f'- configs: {", ".join(configs)}'] if configs else []
    lines += ['', 'Options:', '', *options(text)] if options(text) else []
    lines += ['', '```', config_of(text), '```'] if config_of(text) else []
    return '\n'.join(lines)


def render(root: Path) -> str:
    """Write the page."""
    measured, used = costs(root), users(root)
    kinds = {
        'Over pairs': [loss for loss in losses() if issubclass(loss, PairLoss)],
        'Against proxies of the classes': [loss for loss in losses() if issubclass(loss, ProxyLoss)],
        'Others': [loss for loss in losses() if not issubclass(loss, (PairLoss, ProxyLoss))],
    }
    parts = [INTRODUCTION]
    rows = []
    for kind in kinds.values():
        for loss in kind:
            first = markdown(inspect.getdoc(loss)).splitlines()[0]
            rows.append(
                [f'[{loss.__name__}](#{loss.__name__.lower()})', first.partition(': ')[2] or first, needs(loss)]
            )
    parts.append(markdown_table(['loss', 'what it does', 'needs'], rows, text_columns=3))
    for name, kind in kinds.items():
        parts += [f'## {name}'] if kind else []
        parts += [section(loss, measured.get(loss.__name__), used.get(loss.__name__, [])) for loss in kind]
    return '\n\n'.join(parts) + '\n'


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the page; exit code 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='write nothing; exit code 1 if the page is out of date')
    root = Path(__file__).resolve().parents[2]
    args = parser.parse_args(arguments)
    path, text = root / PAGE, render(root)
    if path.exists() and path.read_text(encoding='utf-8') == text:
        return 0
    print(f'{"out of date" if args.check else "written"}: {path}')
    if not args.check:
        path.write_text(text, encoding='utf-8')
    return int(args.check)


if __name__ == '__main__':
    sys.exit(main())
