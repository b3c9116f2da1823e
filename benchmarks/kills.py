"""Kill runs around every write and at random moments, resume them, and compare them with one that was not killed.

    python benchmarks/kills.py                    # 60 kills
    python benchmarks/kills.py --random 100 --seed 1

Two kinds of tiny runs take turns: IAA from a bank, and divide and conquer with clusters made anew in every epoch; both
keep one checkpoint and a best one. A kill passes if the newest whole checkpoint holds every epoch that was over, and
the resumed run ends with the same files and, bit by bit, the same weights, optimizer, schedules and state.
"""

import argparse
import collections
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / 'tests'))

from killing import EPOCHS, MOMENTS, Runs, checkpoints, differences, newest_and_begun  # noqa: E402
from tiny import tiny_config  # noqa: E402

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def draw_pictures(root: Path) -> str:
    """Eight classes of six noisy images of a dot."""
    noise = np.random.default_rng(0)
    for label in range(8):
        (root / f'class_{label}').mkdir(parents=True)
        for number in range(6):
            image = noise.integers(0, 60, (28, 28), dtype=np.uint8)
            cv2.circle(image, (4 + 6 * (label % 4), 8 + 10 * (label // 4)), 3, 255, -1)
            cv2.imwrite(str(root / f'class_{label}' / f'{number}.png'), image)
    return str(root)


def write_config(kind: str, pictures: str, folder: Path) -> Path:
    """Config file of a run of some kind in a new folder."""
    folder.mkdir()
    options = dict(train_cfg__max_epochs=EPOCHS, default_hooks__checkpoint__save_best='retrieval/MAP@R')
    if kind == 'IAA':
        cfg = tiny_config(pictures, folder, model__head__sources__iaa__source='bank', **options)
    else:
        cfg = tiny_config(pictures, folder, config='multi_similarity/ms_conv4_omniglot.py', **options)
        cfg.custom_hooks = [dict(type='DivisionHook', divide_until=EPOCHS, interval=1, seed=5)]
        cfg.model.neck = dict(type='DivideAndConquerEmbedding', in_channels=8, embed_dim=6, num_learners=2)
        cfg.model.head.type = 'DivideAndConquerHead'
        cfg.train_dataloader.sampler = dict(type='ClusterPKSampler', batch_size=6, images_per_class=2)
    cfg.train_dataloader.dataset.val_classes = cfg.val_dataloader.dataset.val_classes = 0.25
    cfg.val_dataloader.dataset.split = 'val'
    cfg.dump(str(folder / 'tiny.py'))
    return folder / 'tiny.py'


def kill_and_resume(runs: Runs, config: Path, whole: dict, **how) -> tuple[str, str]:
    """Outcome of one kill, 'equal' or 'ended before' where all is well, and what was lost or differs."""
    code = runs.run(config, **how)
    if code == 0:
        return ('ended before', '') if not differences(config.parent, whole) else ('FAILED', 'differs without a kill')
    if code != how['by']:
        return 'FAILED', f'ended by {code}'
    newest, over = newest_and_begun(config.parent)
    if newest < over:
        return 'FAILED', f'{over} epochs were over, the newest whole checkpoint is {newest}'
    code = runs.run(config, resume=newest > 0)
    found = differences(config.parent, whole) if code == 0 else [f'the resumed run ended by {code}']
    return ('FAILED', ', '.join(found)) if found else ('equal', '')


def main() -> int:
    """Run all kills and print what came of them; the exit status is the number of failures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--random', type=int, default=36, help='kills at random moments, besides those around writes')
    parser.add_argument('--seed', type=int, default=0, help='of the random moments')
    args = parser.parse_args()
    moments = random.Random(args.seed)
    outcomes = collections.Counter()
    with tempfile.TemporaryDirectory() as root, Runs() as runs:
        root = Path(root)
        pictures = draw_pictures(root / 'pictures')
        whole, seconds = {}, {}
        for kind in ('IAA', 'D&C'):
            config = write_config(kind, pictures, root / f'whole_{kind}')
            runs.run(config)  # the first one warms the machine up
            config = write_config(kind, pictures, root / f'timed_{kind}')
            start = time.time()
            if runs.run(config) != 0:
                sys.exit((config.parent / 'console.txt').read_text())
            seconds[kind], whole[kind] = time.time() - start, checkpoints(config.parent)
        plan = [(name, dict(at=moment, by=by)) for name, moment in MOMENTS.items() for by in SIGNALS]
        for number in range(args.random):
            by = SIGNALS[number % len(SIGNALS)]
            plan.append(('at random', dict(after=moments.uniform(0.02, 1), by=by)))
        for number, (name, how) in enumerate(plan):
            kind = ('IAA', 'D&C')[number % 2]
            config = write_config(kind, pictures, root / f'run_{number}')
            if 'after' in how:
                how['after'] *= seconds[kind]
                name = f'after {how["after"]:.2f} s'
            outcome, detail = kill_and_resume(runs, config, whole[kind], **how)
            outcomes[outcome] += 1
            print(f'{number + 1:3} {kind} {how["by"].name:8} {name:30} {outcome} {detail}', flush=True)
    print(', '.join(f'{count} {outcome}' for outcome, count in outcomes.items()))
    return outcomes['FAILED']


if __name__ == '__main__':
    sys.exit(main())
