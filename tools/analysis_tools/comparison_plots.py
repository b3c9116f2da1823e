"""Plots of comparisons: gains by set and row, curves against a number such as the updates, and bars."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paired_scores import METRICS, Scores, compare, sets_of, short


def plot_gains(comparison: dict[str, Any], scores: Scores, path: Path) -> None:
    """Draw gains in Recall@1 and MAP@R with their t intervals, one panel for each set; faint where 0 is inside.

    Rows and sets without a measured gain are left out.
    """
    pyplot = _pyplot()
    sets, rows = _measured(comparison['rows'], comparison.get('sets') or sets_of(scores), scores)
    longest = max(len(row['label']) for row in rows)
    size = (2.3 * len(sets) + 1.2 + 0.07 * longest, 0.34 * len(rows) + 1.3)
    figure, panels = pyplot.subplots(1, len(sets), figsize=size, squeeze=False)
    for panel, where in zip(panels[0], sets, strict=True):
        for height, row in enumerate(reversed(rows)):
            for metric, color, shift in zip(METRICS.values(), ('C0', 'C1'), (0.13, -0.13), strict=True):
                found = compare(scores, metric, where, row['base'], row['arm'])
                if found is None:
                    continue
                panel.errorbar(
                    found.mean, height + shift, xerr=_half(found), fmt='o', markersize=4, color=color, capsize=2,
                    alpha=1 if found.clear else 0.4,
                )  # fmt: skip
        panel.axvline(0, color='0.3', linewidth=0.8)
        panel.set_title(short(where), fontsize=8)
        labels = [row['label'] for row in reversed(rows)] if panel is panels[0][0] else []
        panel.set_yticks(range(len(labels)), labels, fontsize=8)
        panel.set_ylim(-0.6, len(rows) - 0.4)
        panel.tick_params(axis='x', labelsize=7)
        panel.set_xlabel('gain, points, 95 % (t)', fontsize=7)
    handles = [pyplot.Line2D([], [], color=color, marker='o', markersize=4) for color in ('C0', 'C1')]
    panels[0][-1].legend(handles, list(METRICS), fontsize=6, loc='upper left', bbox_to_anchor=(1, 1))
    _save(figure, path)


def _measured(rows: list[dict], sets: Sequence[str], scores: Scores) -> tuple[list[str], list[dict]]:
    """Return the sets and rows that have a gain; all of them where none has."""
    pairs = [
        (where, row)
        for where in sets
        for row in rows
        if any(compare(scores, metric, where, row['base'], row['arm']) is not None for metric in METRICS.values())
    ]
    return (
        [where for where in sets if any(where == found for found, _ in pairs)] or list(sets),
        [row for row in rows if any(row is found for _, found in pairs)] or rows,
    )


def plot_curves(comparison: dict[str, Any], scores: Scores, path: Path) -> None:
    """Draw Recall@1 against ``x`` of the rows, one panel for each set.

    With ``line`` in the rows, gains of each line with their t intervals; else the means of base and arm over the seeds
    that both have, under the names ``base_line`` and ``arm_line`` of the comparison.
    """
    pyplot = _pyplot()
    sets = comparison.get('sets') or sets_of(scores)
    rows = [row for row in comparison['rows'] if 'x' in row]
    gains = any('line' in row for row in rows)
    figure, panels = pyplot.subplots(1, len(sets), figsize=(2.8 * len(sets) + 2.2, 2.6), squeeze=False)
    for panel, where in zip(panels[0], sets, strict=True):
        lines = _gain_lines(rows, scores, where) if gains else _score_lines(comparison, rows, scores, where)
        for number, (name, points) in enumerate(lines.items()):
            x, y, half = zip(*points, strict=True)
            shifted = [value * 1.04 ** (number - (len(lines) - 1) / 2) for value in x]
            panel.errorbar(shifted, y, yerr=half, fmt='o-', markersize=3, capsize=2, color=f'C{number}', label=name)
        if gains:
            panel.axhline(0, color='0.3', linewidth=0.8)
        panel.set_xscale('log')
        ticks = {row['x']: str(row.get('tick', f'{row["x"]:,}')) for row in rows}
        panel.set_xticks(list(ticks), list(ticks.values()), fontsize=7)
        panel.set_xticks([], minor=True)
        panel.tick_params(axis='y', labelsize=7)
        panel.set_title(short(where), fontsize=8)
        panel.set_xlabel(comparison['x'], fontsize=7)
    panels[0][0].set_ylabel('gain in Recall@1' if gains else 'Recall@1', fontsize=7)
    if panels[0][0].has_data():
        # Beside the last panel, with the lines of the first: over the curves it would hide some.
        panels[0][-1].legend(
            *panels[0][0].get_legend_handles_labels(), fontsize=6, loc='upper left', bbox_to_anchor=(1, 1)
        )
    _save(figure, path)


def plot_bars(groups: Sequence[str], series: dict[str, Sequence[float]], label: str, path: Path) -> None:
    """Draw a bar for each group and series, side by side in a group.

    Args:
        groups: names along the axis.
        series: a value for each group, by the name of the series.
        label: of the values.
        path: file of the picture.
    """
    pyplot = _pyplot()
    figure, panel = pyplot.subplots(figsize=(1.1 * len(groups) + 2.5, 2.6))
    width = 0.8 / len(series)
    for number, (name, values) in enumerate(series.items()):
        shift = (number - (len(series) - 1) / 2) * width
        panel.bar([place + shift for place in range(len(groups))], values, width, label=name, color=f'C{number}')
    panel.set_xticks(range(len(groups)), groups, fontsize=7)
    panel.tick_params(axis='y', labelsize=7)
    panel.set_ylabel(label, fontsize=7)
    panel.legend(fontsize=6, loc='upper left', bbox_to_anchor=(1, 1))
    _save(figure, path)


Points = list[tuple[float, float, float]]


def _gain_lines(rows: list[dict[str, Any]], scores: Scores, where: str) -> dict[str, Points]:
    lines: dict[str, Points] = {}
    for row in rows:
        found = compare(scores, METRICS['Recall@1'], where, row['base'], row['arm'])
        if found is not None:
            lines.setdefault(row['line'], []).append((row['x'], found.mean, _half(found) or 0.0))
    return lines


def _score_lines(
    comparison: dict[str, Any], rows: list[dict[str, Any]], scores: Scores, where: str
) -> dict[str, Points]:
    lines: dict[str, Points] = {}
    for row in rows:
        base, arm = (scores.get((METRICS['Recall@1'], where, row[side]), {}) for side in ('base', 'arm'))
        shared = base.keys() & arm.keys()
        for name, column in ((comparison['base_line'], base), (comparison['arm_line'], arm)):
            if shared:
                lines.setdefault(name, []).append((row['x'], sum(column[each] for each in shared) / len(shared), 0.0))
    return lines


def _half(found: Any) -> float | None:
    return None if found.t is None else found.t[1] - found.mean


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80, bbox_inches='tight', metadata={'Software': None})
    _pyplot().close(figure)
