"""A log line shows what was computed since the line before, and nothing older."""

import copy
import re
from pathlib import Path

from tiny import tiny_config, train

OPTIONS = dict(
    default_hooks__logger__interval=2,
    log_level='INFO',
    model__head__diagnostics_interval=5,
    model__head__sources__iaa__onset=0,
    model__head__sources__iaa__update_interval=1,
)


def lines_of(work_dir):
    """For each line of training its update, and whether it has diagnostics."""
    (log,) = Path(work_dir).glob('*/*.log')
    rows = re.findall(r'Epoch\(train\) +\[(\d+)\]\[ *(\d+)/(\d+)\] (.*)', log.read_text())
    found = [(int(length) * (int(epoch) - 1) + int(batch), 'iaa_cosine' in rest) for epoch, batch, length, rest in rows]
    assert all('loss: ' in rest and 'lr: ' in rest and 'time: ' in rest for *_, rest in rows)
    return found


def test_diagnostics_stand_in_the_line_after_they_were_computed_and_in_no_other(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path / 'whole', default_hooks__checkpoint__max_keep_ckpts=-1, **OPTIONS)
    again = copy.deepcopy(cfg)
    runner = train(cfg)
    length = len(runner.train_dataloader)
    lines = lines_of(cfg.work_dir)
    (log,) = Path(cfg.work_dir).glob('*/*.log')
    assert f'IAA: statistics from update 1, copies from update 1 of {4 * length}' in log.read_text()
    steps = [update for update, _ in lines]
    before = dict(zip(steps, [0, *steps], strict=False))
    expected = [any(before[update] < step <= update for step in range(5, 100, 5)) for update in steps]
    assert [has for _, has in lines] == expected and True in expected and False in expected
    # A resumed run continues where the checkpoint left off.
    again.work_dir, again.resume = str(tmp_path / 'resumed'), True
    again.load_from = str(tmp_path / 'whole' / 'epoch_2.pth')
    train(again)
    assert lines_of(again.work_dir) == [line for line in lines if line[0] > 2 * length]


def test_no_history_is_lost(pictures, tmp_path):
    runner = train(tiny_config(pictures, tmp_path, train_cfg__max_epochs=2, **OPTIONS))
    updates = runner.iter
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == updates
    assert len(runner.message_hub.get_scalar('train/iaa_cosine').data[0]) == updates // 5
