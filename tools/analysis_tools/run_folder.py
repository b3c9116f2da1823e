"""What the folder of a training run says about its result: the last evaluation, and how far training came."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def last_evaluation(work_dir: str | Path) -> tuple[int, dict[str, float]]:
    """Return the last validation that a run logged, over all its attempts.

    MMEngine appends lines of JSON to ``<work_dir>/<time>/vis_data/scalars.json``. Lines of training hold ``iter``;
    lines of a validation hold metrics called ``prefix/name`` and, in ``step``, the epoch or iteration.

    Returns:
        The step, and the metrics.

    Raises:
        ValueError: if no validation was logged, or a log is broken; names the file and line.
    """
    found: tuple[int, dict[str, float]] | None = None
    # Folders are named by their start, so the sorted order is the order of the attempts.
    for log in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for scalars in _log_lines(log):
            metrics = {key: value for key, value in scalars.items() if '/' in key}
            if metrics and 'iter' not in scalars:
                found = scalars['step'], metrics
    if found is None:
        raise ValueError(f'{work_dir}: no validation line in */vis_data/scalars.json; is validation switched off?')
    return found


def _log_lines(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a ``scalars.json``. A last one without its end was cut off by a kill, and is left out."""
    *whole, _ = log.read_bytes().split(b'\n')
    for number, line in enumerate(whole, 1):
        try:
            scalars = json.loads(line)
        except ValueError:
            scalars = None
        if not isinstance(scalars, dict) or ('/' in ''.join(scalars) and 'step' not in scalars):
            raise ValueError(
                f'{log}, line {number} is no line of a log: {line[:60]!r}; delete the line, or the folder '
                f'{log.parents[2]} to train the run again'
            )
        yield scalars


def read_progress(work_dir: str | Path) -> dict[str, int]:
    """Return ``epoch`` and ``iter`` that the last checkpoint of a run has reached.

    Raises:
        ValueError: if the run wrote no checkpoint, or its pointer names none.
    """
    pointer = Path(work_dir) / 'last_checkpoint'
    if not pointer.exists():
        raise ValueError(f'{work_dir}: no checkpoint was written, so the number of updates is unknown')
    checkpoint = Path(work_dir, pointer.read_text(encoding='utf-8', errors='replace').strip())
    if not checkpoint.is_file():
        raise ValueError(f'{pointer} names {checkpoint}, which is not there')
    from mmengine.runner import CheckpointLoader

    import mmdml.registry  # noqa: F401  from here on a checkpoint that would run code is refused

    meta = CheckpointLoader.load_checkpoint(str(checkpoint), map_location='cpu', logger='silent')['meta']
    return {'epoch': meta['epoch'], 'iter': meta['iter']}


def final_metrics(work_dir: str | Path) -> tuple[int, dict[str, float]]:
    """Return the iterations done and the metrics after the last of them.

    No epoch is ever chosen by its scores: the last evaluation must belong to the last epoch.

    Raises:
        ValueError: if the run was not evaluated at its end.
    """
    step, metrics = last_evaluation(work_dir)
    progress = read_progress(work_dir)
    if step not in progress.values():
        raise ValueError(
            f'{work_dir}: the last evaluation is of step {step}, but training ended at epoch {progress["epoch"]}, '
            f'iteration {progress["iter"]}; choose train_cfg.val_interval so that the last epoch is evaluated'
        )
    return progress['iter'], metrics
