"""Kill ``mmdml index`` at random moments, and check that nothing that it had stored is lost.

    python benchmarks/kills_index.py                  # 20 kills
    python benchmarks/kills_index.py --kills 50 --seed 1 --store milvus-lite

Each kill hits a run that indexes 400 drawn pictures into a new store, after 0 to 100 % of the time that a whole run
takes from its first batch on. A kill passes if the store opens, each row that the run had acknowledged is found by its
own vector with its path, label and hash, and the next run completes the store: the same rows, with the same vectors, as
a run that was not killed.
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / 'tests'))


def draw_pictures(root: Path) -> Path:
    """Ten classes of 40 noisy images of a dot."""
    import cv2

    noise = np.random.default_rng(0)
    for label in range(10):
        (root / f'class_{label}').mkdir(parents=True)
        for number in range(40):
            image = noise.integers(0, 60, (28, 28), dtype=np.uint8)
            cv2.circle(image, (4 + 5 * (label % 5), 8 + 10 * (label // 5)), 3, 255, -1)
            cv2.imwrite(str(root / f'class_{label}' / f'{number:02}.png'), image)
    return root


def tiny_model(pictures: Path, folder: Path) -> str:
    """Name of a tiny model with a checkpoint."""
    import torch
    from tiny import tiny_config

    from mmdml.apis import get_model

    cfg = tiny_config(str(pictures), folder)
    torch.save({'state_dict': get_model(cfg.copy()).state_dict()}, folder / 'model.pth')
    cfg.dump(str(folder / 'tiny.py'))
    return f'{folder}/tiny.py:{folder}/model.pth'


class Run:
    """A forked process that indexes, as ``mmdml index`` does; it writes the paths of each batch that is stored."""

    def __init__(self, model: str, pictures: Path, address: Path) -> None:
        self._lines, end = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            try:
                index(model, pictures, address, end)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.close(end)
        while not os.read(self._lines, 1):  # the store is about to be opened
            pass

    def wait(self, seconds: float | None = None) -> tuple[list[str], bool]:
        """Return the paths that are stored, and whether the process was killed, which it is after some seconds."""
        if seconds is not None:
            time.sleep(seconds)
            os.kill(self.process, signal.SIGKILL)
        data = b''
        while part := os.read(self._lines, 1 << 16):
            data += part
        os.close(self._lines)
        status = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        if status not in (0, -signal.SIGKILL):
            raise AssertionError(f'the run ended by {status}')
        return [os.fsdecode(line) for line in data.split(b'\n')[:-1]], status != 0


def index(model: str, pictures: Path, address: Path, output: int) -> None:
    """Index the pictures into a store."""
    from mmdml.apis import ImageEmbeddingInferencer, update_gallery
    from mmdml.index import open_store

    embed = ImageEmbeddingInferencer(model, device='cpu', batch_size=8, workers=2, progress=False)
    os.write(output, b'!')
    with open_store(address, embed.dimensions, embed.model_hash, write=True, model=model) as store:
        add = store.add

        def add_and_say(vectors, items):
            ids = add(vectors, items)
            os.write(output, b''.join(os.fsencode(item.path) + b'\n' for item in items))
            return ids

        store.add = add_and_say
        update_gallery(store, embed, pictures)


def rows_of(address: Path) -> dict:
    """Path -> item and vector of each row; each is found by its own vector. Read by a process of its own."""
    # A client of Milvus starts threads, which no process that forks may have.
    with ProcessPoolExecutor(1, multiprocessing.get_context('fork')) as pool:
        return pool.submit(_rows_of, address).result()


def _rows_of(address: Path) -> dict:
    from mmdml.index import LocalStore, open_store

    with open_store(address) as store:
        if isinstance(store, LocalStore):
            store.verify()
        rows = list(store.rows())
        ids = [row.id for row in rows]
        vectors = store.vectors(ids)
        if rows:
            # Pictures that look alike to a tiny model have one vector: the row is among the nearest.
            found = store.search(vectors, min(5, len(rows)))
            scores = (found.scores[:, :1] > 1 - 1e-5).all()
            lost = [row.item.path for row, near in zip(rows, found.ids, strict=True) if row.id not in near]
            if not scores or lost:
                raise AssertionError(f'rows are not found by their vectors: {lost[:3]}')
    return {row.item.path: (row.item, vector) for row, vector in zip(rows, vectors, strict=True)}


def differences(found: dict, whole: dict) -> str:
    """What is wrong with a completed store, empty if nothing is."""
    if found.keys() != whole.keys():
        return f'{len(whole.keys() - found.keys())} rows are missing, {len(found.keys() - whole.keys())} too many'
    items = [path for path in whole if found[path][0] != whole[path][0]]
    far = max(float(np.abs(found[path][1] - whole[path][1]).max()) for path in whole)
    return f'{len(items)} items differ' * bool(items) or f'a vector differs by {far:.1e}' * (far > 1e-5)


def complete(model: str, pictures: Path, address: Path, whole: dict) -> str:
    """What is wrong with a store after one more run, empty if nothing is."""
    Run(model, pictures, address).wait()
    return differences(rows_of(address), whole)


def main() -> int:
    """Run all kills and print what came of them; the exit status is the number of failures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=20, help='number of kills')
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    parser.add_argument('--store', choices=('local', 'milvus-lite'), default='local', help='kind of the store')
    args = parser.parse_args()
    # What the forked processes have in common; nothing is computed here, which would start threads.
    import torch

    import mmdml.datasets
    import mmdml.engine
    import mmdml.models  # noqa: F401
    from mmdml.cli.options import quiet_loading

    torch.set_num_threads(1)
    quiet_loading()
    moments, failures = random.Random(args.seed), 0
    ending = '' if args.store == 'local' else '.db'
    with tempfile.TemporaryDirectory() as root:
        root = Path(root)
        pictures = draw_pictures(root / 'pictures')
        model = tiny_model(pictures, root)
        Run(model, pictures, root / f'first{ending}').wait()  # the first one warms the machine up
        run = Run(model, pictures, root / f'whole{ending}')
        began = time.monotonic()
        run.wait()
        seconds, whole = time.monotonic() - began, rows_of(root / f'whole{ending}')
        assert len(whole) == 400
        for number in range(args.kills):
            address = root / f'store_{number}{ending}'
            after = moments.uniform(0, seconds)
            acknowledged, killed, problem = [], True, ''
            try:
                acknowledged, killed = Run(model, pictures, address).wait(after)
                rows = rows_of(address) if address.exists() else {}
                lost = [path for path in acknowledged if path not in rows]
                problem = complete(model, pictures, address, whole)
                problem = f'{len(lost)} acknowledged rows are lost' if lost else problem
            except FileNotFoundError as error:
                # Killed before the store was one.
                problem = str(error) if acknowledged else complete(model, pictures, address, whole)
            except (AssertionError, OSError, ValueError, RuntimeError) as error:
                problem = str(error)
            failures += bool(problem)
            print(
                f'{number + 1:3} {"killed after" if killed else "ended before"} {after:.2f} s, '
                f'{len(acknowledged):3} of 400 rows acknowledged: '
                f'{problem or "all found, completed"}',
                flush=True,
            )
    print(f'{args.kills - failures} of {args.kills} passed')
    return failures


if __name__ == '__main__':
    sys.exit(main())
