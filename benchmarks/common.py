"""What the benchmarks share: CPU times, data of the size of Stanford Online Products, pages of measured tables."""

import argparse
import inspect
import platform
import random
import re
import shlex
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmdml.utils.machine import available_cores, processor_name
from mmdml.utils.tables import markdown_table

REPO = Path(__file__).resolve().parents[1]
SOP_IMAGES, SOP_CLASSES = 59_551, 11_318

Table = tuple[Sequence[str], list[Sequence[Any]]]
_START, _END = '<!-- benchmark: {} -->', '<!-- /benchmark -->'


# ---- times -----------------------------------------------------------------------------------------------------------


def cpu_seconds(function: Callable[[], Any], repeats: int = 5) -> float:
    """Median process CPU time of a call."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return statistics.median(times)


def repeated_cpu_seconds(function: Callable[[], Any], least: float = 0.2) -> float:
    """`cpu_seconds` of a short call: each of the five timings covers enough calls to last ``least`` seconds."""
    function()
    calls = max(1, int(least / max(cpu_seconds(function, 3), 1e-6)))
    return cpu_seconds(lambda: [function() for _ in range(calls)]) / calls


def device_seconds(function: Callable[[], Any], device: str, repeats: int = 5) -> float:
    """Median wall time of a call whose work is on a device; the first call, which prepares it, is not counted."""

    def once() -> float:
        wait_for(device)
        start = time.perf_counter()
        function()
        wait_for(device)
        return time.perf_counter() - start

    once()
    return statistics.median(once() for _ in range(repeats))


def wait_for(device: str) -> None:
    """Let the device finish what it was given; a CPU has."""
    if torch.device(device).type != 'cpu':
        getattr(torch, torch.device(device).type).synchronize()


def alternating_cpu_seconds(
    functions: Mapping[str, Callable[[], Any]], rounds: int, uncounted: int = 1
) -> dict[str, list[float]]:
    """Process CPU times of calls that take turns, in a new random order each round, so that all meet the same machine.

    The ``uncounted`` rounds come before the others.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    order = random.Random(0)
    for counted in [False] * uncounted + [True] * rounds:
        for name in order.sample(list(functions), len(functions)):
            start = time.process_time()
            functions[name]()
            if counted:
                times[name].append(time.process_time() - start)
    return times


def milliseconds(seconds: float) -> str:
    return f'{1000 * seconds:.1f} ms'


# ---- data ------------------------------------------------------------------------------------------------------------


def class_labels(images: int, classes: int, low: int, high: int, seed: int = 0) -> np.ndarray:
    """``(images,)`` labels of ``classes`` classes with ``low`` to ``high`` images each."""
    random = np.random.default_rng(seed)
    share = (images / classes - low) / (high - low)
    sizes = low + random.binomial(high - low, share, size=classes)
    while (gap := images - sizes.sum()) != 0:
        step = int(np.sign(gap))
        movable = np.flatnonzero(sizes < high if step > 0 else sizes > low)
        sizes[random.choice(movable, size=min(abs(gap), len(movable)), replace=False)] += step
    return np.repeat(np.arange(classes), sizes)


# ---- the page --------------------------------------------------------------------------------------------------------


def machine() -> str:
    """Processor and versions, in words."""
    versions = f'torch {torch.__version__}, Python {platform.python_version()}'
    return f'{available_cores()} cores of {processor_name()}, {versions}'


@dataclass(frozen=True)
class Page:
    """A markdown page of measured tables.

    Attributes:
        name: of the script and of the page, without ending.
        heading: what stands above the sections.
        sections: what measures each table; its docstring stands above the table.
    """

    name: str
    heading: str
    sections: Mapping[str, Callable[[], Table]]

    def parser(self, description: str) -> argparse.ArgumentParser:
        """The options that all benchmarks have."""
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument('--sections', nargs='+', choices=list(self.sections), default=list(self.sections))
        path = REPO / f'docs/benchmarks/{self.name}.md'
        parser.add_argument('--output', type=Path, default=path, help='markdown page to write')
        return parser

    def measure(self, sections: Sequence[str], output: Path) -> None:
        """Measure sections with one thread, print each, and put it where it belongs in the page."""
        torch.set_num_threads(1)
        torch.manual_seed(0)
        warnings.filterwarnings('ignore', category=DeprecationWarning)
        date = datetime.now(timezone.utc).strftime('%Y-%m-%d')
        for section in sections:
            text = self._render(section, date)
            print(f'{text}\n', flush=True)
            self._write(output, section, text)

    def _render(self, section: str, date: str) -> str:
        """One section in markdown, with machine and command."""
        headers, lines = self.sections[section]()
        body = markdown_table(headers, [list(map(str, line)) for line in lines])
        command = shlex.join(['python', f'benchmarks/{self.name}.py', '--sections', section])
        where = f'On {machine()}, CPU times of one thread, {date}: `{command}`'
        return f'{inspect.getdoc(self.sections[section])}\n\n{body}\n\n{where}'

    def _empty(self) -> str:
        """The page before anything was measured."""
        return self.heading + ''.join(map(self._place, self.sections))

    def _place(self, section: str) -> str:
        """Where a section goes: its title and its markers."""
        return f'\n## {section.capitalize()}\n\n{_START.format(section)}\n{_END}\n'

    def _write(self, path: Path, section: str, text: str) -> None:
        """Put a section between its markers; at the end of a page that has none for it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        old = path.read_text(encoding='utf-8') if path.exists() else self._empty()
        start = _START.format(section)
        block = re.compile(re.escape(start) + '.*?' + re.escape(_END), flags=re.DOTALL)
        if not block.search(old):
            old += self._place(section)
        path.write_text(block.sub(lambda _: f'{start}\n\n{text}\n\n{_END}', old), encoding='utf-8')
