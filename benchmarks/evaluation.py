"""What exact retrieval scores cost, beside the bare matrix product, faiss and pytorch-metric-learning.

    python benchmarks/evaluation.py                                     # all sections, to docs/benchmarks/evaluation.md
    python benchmarks/evaluation.py --sections self inshop              # only some; the others of the page stay
    python benchmarks/evaluation.py --scale 0.05 --output /tmp/try.md   # a twentieth of the images, to see it work
    python benchmarks/evaluation.py --device cuda                       # 60,000 x 512 on a GPU, printed; no page

Every measurement is a process of its own that loads the same saved embeddings: CPU time with one thread, wall time with
all, and the peak memory above what was there once they were loaded (Linux only). Methods take turns; medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import SOP_CLASSES, SOP_IMAGES, Page, Table, alternating_cpu_seconds, device_seconds

from mmdml.utils.machine import available_cores

RECALL_AT = (1, 10, 100, 1000)
TOP_R = ('Recall@K', 'MAP@R', 'RP')
ROWS = 512  # of a block of the bare product, as mmdml takes at N = 60,000


# ---- what is measured: each runs in a process of its own -------------------------------------------------------------

Sides = tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]


def bare_product(sides: Sides) -> dict[str, float]:
    """The matrix product in blocks of rows, into one buffer, and nothing else."""
    import torch

    query = torch.from_numpy(sides[0])
    gallery = query if sides[2] is None else torch.from_numpy(sides[2])
    buffer = torch.empty(ROWS, len(gallery))
    for rows in query.split(ROWS):
        torch.mm(rows, gallery.t(), out=buffer[: len(rows)])
    return {}


def faiss_search(sides: Sides) -> dict[str, float]:
    """faiss's exact search for 33 neighbors, without any score."""
    import faiss

    gallery = sides[0] if sides[2] is None else sides[2]
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery)
    index.search(sides[0], 33)
    return {}


def pytorch_metric_learning(sides: Sides) -> dict[str, float]:
    """pytorch-metric-learning with k='max_bin_count', which is enough for its three scores."""
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    names = {'precision_at_1': 'Recall@1', 'mean_average_precision_at_r': 'MAP@R', 'r_precision': 'RP'}
    calculator = AccuracyCalculator(include=tuple(names), k='max_bin_count', device=torch.device('cpu'))
    scores = calculator.get_accuracy(*(torch.from_numpy(side) for side in sides if side is not None))
    return {name: float(scores[theirs]) for theirs, name in names.items()}


def mmdml_scores(sides: Sides, metrics: Sequence[str] = TOP_R, **options: Any) -> dict[str, float]:
    """`retrieval_scores`; says how far it is every 30 seconds."""
    from mmdml.evaluation.functional import LogProgress, retrieval_scores

    return retrieval_scores(*sides, recall_at=RECALL_AT, metrics=metrics, progress=LogProgress(30), **options)


def draws(sides: Sides, method: Callable[[Sides], dict[str, float]], number: int = 10) -> dict[str, float]:
    """Mean scores over draws of a gallery of one image of each class; the rest are the queries."""
    embeddings, labels = sides[:2]
    results = []
    for seed in range(number):
        order = np.random.default_rng(seed).permutation(len(labels))
        chosen = order[np.unique(labels[order], return_index=True)[1]]
        rest = np.setdiff1d(order, chosen)
        results.append(method((embeddings[rest], labels[rest], embeddings[chosen], labels[chosen])))
    return {name: float(np.mean([result[name] for result in results])) for name in results[0]}


def clustering(sides: Sides) -> dict[str, float]:
    """NMI, AMI and F1 of k-means with as many clusters as classes, no restart."""
    from mmdml.evaluation.functional import clustering_scores

    return clustering_scores(*sides[:2])


def expansion(sides: Sides) -> dict[str, float]:
    """Alpha query expansion of all rows, then the scores."""
    import torch

    from mmdml.evaluation.functional import alpha_query_expansion

    return mmdml_scores((alpha_query_expansion(torch.from_numpy(sides[0])).numpy(), *sides[1:]))


def whitening(sides: Sides) -> dict[str, float]:
    """PCA-whitening to a quarter of the dimensions, fitted on the rows, then the scores."""
    import torch

    from mmdml.evaluation.functional import PCAWhitening

    rows = torch.from_numpy(sides[0])
    return mmdml_scores((PCAWhitening.fit(rows, dim=rows.shape[1] // 4).transform(rows).numpy(), *sides[1:]))


MMDML = 'mmdml'
METHODS: dict[str, Callable[[Sides], dict[str, float]]] = {
    'bare product': bare_product,
    'faiss, search alone': faiss_search,
    'pytorch-metric-learning': pytorch_metric_learning,
    MMDML: mmdml_scores,
    'mmdml with mAP': partial(mmdml_scores, metrics=(*TOP_R, 'mAP', 'MRR', 'mAP@10')),
    'mmdml on faiss': partial(mmdml_scores, backend='faiss'),
}
OPTIONS: dict[str, Callable[[Sides], dict[str, float]]] = {
    'PCA-whitening to 128': whitening,
    'query expansion, k = 10': expansion,
    're-ranking, k1 = 20, k2 = 6': partial(mmdml_scores, reranking={}),
    'k-means, at most 25 iterations': clustering,
}


def memory(field: str) -> float:
    """GB of this process, a field of /proc/self/status."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(f'{field}:'):
            return int(line.split()[1]) / 1e6
    raise RuntimeError(f'/proc/self/status has no {field}')


def work(method: str, folder: Path, repeated_galleries: bool) -> None:
    """One measurement, in a process that was started for it; prints it as JSON."""
    import logging

    import faiss
    import pytorch_metric_learning.utils.accuracy_calculator  # noqa: F401  (imports are not what is measured)
    import torch

    import mmdml.evaluation.functional  # noqa: F401

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format='    %(message)s')
    torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
    faiss.omp_set_num_threads(int(os.environ['OMP_NUM_THREADS']))
    names = ('query', 'query_labels', 'gallery', 'gallery_labels')
    files = [folder / f'{name}.npy' for name in names]
    sides = tuple(np.load(file) if file.exists() else None for file in files)
    run = partial(draws, method=METHODS[method]) if repeated_galleries else (METHODS | OPTIONS)[method]
    Path('/proc/self/clear_refs').write_text('5')  # the peak starts anew
    before, cpu, wall = memory('VmRSS'), time.process_time(), time.perf_counter()
    scores = run(sides)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(json.dumps(dict(cpu=cpu, wall=wall, peak=memory('VmHWM') - before, scores=scores)))


# ---- the parent ------------------------------------------------------------------------------------------------------


def clustered(rows: int, classes: int, dim: int, noise: float = 2) -> tuple[np.ndarray, np.ndarray]:
    """``(rows, dim)`` unit rows around one center per class, ``noise`` times as wide as the centers lie, and labels."""
    import torch

    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (rows,), generator=random)
    centers = torch.randn(classes, dim, generator=random)
    spread = torch.randn(rows, dim, generator=random).mul_(noise)
    return torch.nn.functional.normalize(spread.add_(centers[labels])).numpy(), labels.numpy()


def save(folder: Path, embeddings: np.ndarray, labels: np.ndarray, queries: int | None = None) -> None:
    """Write what the workers load: all rows search each other, or the first ``queries`` search the others."""
    np.save(folder / 'query.npy', embeddings[:queries])
    np.save(folder / 'query_labels.npy', labels[:queries])
    if queries is not None:
        np.save(folder / 'gallery.npy', embeddings[queries:])
        np.save(folder / 'gallery_labels.npy', labels[queries:])


def measure_once(method: str, folder: Path, threads: int, repeated_galleries: bool) -> dict[str, Any]:
    """One worker's measurement; a failure as ``error``."""
    command = [sys.executable, __file__, '--worker', method, '--folder', str(folder)]
    command += ['--repeated-galleries'] * repeated_galleries
    limits = dict(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), PYTHONWARNINGS='ignore')
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(command, env=os.environ | limits, **pipes) as worker:
        last = ''
        for last in worker.stderr:
            print(last, end='', file=sys.stderr, flush=True)
        printed = worker.stdout.read()
    if worker.returncode:
        return dict(error=f'failed: {last.strip() or f"exit status {worker.returncode}"}')
    return json.loads(printed.splitlines()[-1])


def compare(what: str, methods: Sequence[str], folder: Path, repeats: int, repeated_galleries: bool = False) -> list:
    """Lines of a table: methods take turns on the same data, first with one thread, then with all."""
    found: dict[str, dict[int, list[dict[str, Any]]]] = {method: {} for method in methods}
    for threads in (1, available_cores()):
        for repeat in range(repeats):
            for method in methods:
                print(f'  {what}: {method}, {threads} threads, {repeat + 1} of {repeats}', file=sys.stderr, flush=True)
                one = measure_once(method, folder, threads, repeated_galleries)
                found[method].setdefault(threads, []).append(one)
    lines = []
    base = None
    for method, by_threads in found.items():
        alone, everywhere = by_threads[1], by_threads[available_cores()]
        errors = [one['error'] for one in alone + everywhere if 'error' in one]
        if errors:
            lines.append((what, method, errors[0], '', '', '', ''))
            continue
        cpu = statistics.median(one['cpu'] for one in alone)
        wall = statistics.median(one['wall'] for one in everywhere)
        if method == 'bare product':
            base = cpu
        ratio = f'{cpu / base:.2f}' if base else ''
        peak = max(one['peak'] for one in alone + everywhere)
        values = ', '.join(f'{name} {value:.5f}' for name, value in alone[0]['scores'].items())
        lines.append((what, method, f'{cpu:.1f} s', ratio, f'{wall:.1f} s', f'{peak:.2f} GB', values))
    return lines


HEADERS = ('data', 'method', 'CPU, 1 thread', 'x bare product', 'wall, all threads', 'peak above embeddings', 'values')


def self_section(scale: float, repeats: int) -> Table:
    """Self-retrieval (E1), D = 512, 5.35 images a class.

    Aims at 60,000: R@{1, 10, 100, 1000}, MAP@R and RP within 1.25 x of the bare product, full mAP within 1.6 x, peak
    below 0.4 GB above the embeddings.
    """
    lines = []
    for images in (10_000, 60_000):
        images = int(images * scale)
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder), *clustered(images, int(images / 5.35), 512))
            lines += compare(f'{images:,} x 512', list(METHODS), Path(folder), repeats)
    return HEADERS, lines


def untrained_section(scale: float, repeats: int) -> Table:
    """Self-retrieval of embeddings that say next to nothing about the classes (noise 20 instead of 2), D = 512.

    Costly data for an exact search: a query's positives lie far down, so that nearly every score is a candidate.
    """
    lines = []
    images = int(20_000 * scale)
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), *clustered(images, int(images / 5.35), 512, noise=20))
        lines += compare(f'{images:,} x 512', list(METHODS), Path(folder), repeats)
    return HEADERS, lines


def inshop_section(scale: float, repeats: int) -> Table:
    """Queries and gallery of the sizes of In-Shop (E2), 3,985 classes."""
    queries, gallery = int(14_218 * scale), int(12_612 * scale)
    lines = []
    for dim in (512, 2048):
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder), *clustered(queries + gallery, max(2, int(3_985 * scale)), dim), queries)
            lines += compare(f'{queries:,} in {gallery:,} x {dim}', list(METHODS), Path(folder), repeats)
    return HEADERS, lines


def vehicleid_section(scale: float, repeats: int) -> Table:
    """Ten draws of a gallery of one image per identity (E3), of the sizes of VehicleID, D = 512."""
    lines = []
    for identities, images in ((800, 6_493), (1_600, 13_377), (2_400, 19_777)):
        identities, images = int(identities * scale), int(images * scale)
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder), *clustered(images, identities, 512))
            what = f'{identities:,} identities, {images:,} images'
            lines += compare(what, list(METHODS), Path(folder), repeats, repeated_galleries=True)
    return HEADERS, lines


def large_section(scale: float, repeats: int) -> Table:
    """Large galleries (E4), D = 128, 5.35 images a class, one run each.

    The last line is no measurement: the line above it times the number of queries. At D = 128 the product is a quarter
    of what it is at 512, and a block of scores is written to memory and read back several times: that is what the rest
    costs.
    """
    methods = ['bare product', 'faiss, search alone', MMDML, 'mmdml with mAP', 'pytorch-metric-learning']
    images = int(200_000 * scale)
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), *clustered(images, int(images / 5.35), 128))
        lines = compare(f'{images:,} x 128', methods, Path(folder), 1)
    queries, gallery = int(20_000 * scale), int(1_000_000 * scale)
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), *clustered(queries + gallery, int((queries + gallery) / 5.35), 128), queries)
        lines += compare(f'{queries:,} in {gallery:,} x 128', methods[:-1], Path(folder), 1)
    _, method, cpu, ratio, wall, *_ = lines[-1]
    whole = gallery / queries / 3600
    if cpu.endswith(' s'):
        cpu, wall = (f'{float(time[:-2]) * whole:.1f} h' for time in (cpu, wall))
        lines.append((f'{gallery:,} in {gallery:,} x 128, **extrapolated**', method, cpu, ratio, wall, '', ''))
    return HEADERS, lines


def options_section(scale: float, repeats: int) -> Table:
    """What the options cost beside the plain search, at the size of SOP, one run each; the scores are included.

    K-means computes NMI, AMI and F1 and no retrieval score.
    """
    images = int(SOP_IMAGES * scale)
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), *clustered(images, int(SOP_CLASSES * scale), 512))
        return HEADERS, compare(f'{images:,} x 512', ['bare product', MMDML, *OPTIONS], Path(folder), 1)


def with_sizes(sizes: Sequence[int], dim: int, noise: float = 4) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`clustered`, with classes of given sizes, in random order."""
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centers = random.standard_normal((len(sizes), dim), np.float32)
    rows = centers[labels] + noise * random.standard_normal((len(labels), dim), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), labels


def classes_section(scale: float, repeats: int) -> Table:
    """Weak embeddings (noise 4) of classes of other sizes: Recall@1, MAP@R and RP by all methods.

    All in one process that takes turns, best of ``--repeats`` by CPU time of one thread; the machine did other work
    meanwhile, so that the ratios say more than the seconds. The last two
    lines: 1,000 queries in a gallery of 120,000, without pytorch-metric-learning.
    """
    from mmdml.evaluation.functional import retrieval_scores

    shapes: dict[str, tuple[Sequence[int], int, int | None]] = {
        '10 classes of 1,000 (CIFAR-10), D = 128': ([1000] * 10, 128, None),
        '51 classes of 1,000 (Food-101), D = 128': ([1000] * 51, 128, None),
        '100 classes of 60 (CUB-200-2011), D = 512': ([60] * 100, 512, None),
        'one class of 1,000 among 1,800 of 5, D = 128': ([1000] + [5] * 1800, 128, None),
        '6 classes of 20,000, 1,000 queries, D = 100': ([20_167] * 5 + [20_165], 100, 1000),
    }
    lines = []
    for what, (sizes, dim, queries) in shapes.items():
        embeddings, labels = with_sizes([max(2, int(size * scale)) for size in sizes], dim)
        sides: Sides = (embeddings, labels, None, None)
        if queries is not None:
            queries = int(queries * scale)
            sides = (embeddings[:queries], labels[:queries], embeddings[queries:], labels[queries:])
        scores: dict[str, float] = {}
        methods: dict[str, Callable[[], Any]] = {
            'bare product': partial(bare_product, sides),
            MMDML: lambda sides=sides, scores=scores: scores.update(retrieval_scores(*sides, recall_at=(1,))),
        }
        if queries is None:
            methods['pytorch-metric-learning'] = partial(pytorch_metric_learning, sides)
        times = {name: min(found) for name, found in alternating_cpu_seconds(methods, repeats, uncounted=0).items()}
        for name, seconds in times.items():
            values = ', '.join(f'{key} {value:.5f}' for key, value in scores.items()) if name == MMDML else ''
            ratio = f'{seconds / times["bare product"]:.2f}'
            lines.append((what, name, f'{seconds:.2f} s', ratio, values))
    return ('data', 'method', 'CPU, 1 thread', 'x bare product', 'values'), lines


def time_on(device: str, scale: float, repeats: int) -> None:
    """Print what self-retrieval of 60,000 x 512 costs on a device, beside its bare product there."""
    import torch

    from mmdml.evaluation.functional import retrieval_scores

    images = int(60_000 * scale)
    embeddings, labels = clustered(images, int(images / 5.35), 512)
    rows, buffer = torch.from_numpy(embeddings).to(device), torch.empty(ROWS, images, device=device)

    def product() -> None:
        for part in rows.split(ROWS):
            torch.mm(part, rows.t(), out=buffer[: len(part)])

    bare = device_seconds(product, device, repeats)
    print(f'{images:,} x 512 on {device}: bare product {bare:.4f} s')
    for name, metrics in {'mmdml': TOP_R, 'mmdml with mAP': (*TOP_R, 'mAP', 'MRR', 'mAP@10')}.items():
        score = partial(retrieval_scores, rows, labels, recall_at=RECALL_AT, metrics=metrics)
        spent = device_seconds(score, device, repeats)
        print(f'{name}: {spent:.4f} s, {spent / bare:.2f} x the bare product (aim 2)')


SECTIONS: dict[str, Callable[[float, int], Table]] = {
    'self': self_section,
    'untrained': untrained_section,
    'inshop': inshop_section,
    'vehicleid': vehicleid_section,
    'large': large_section,
    'classes': classes_section,
    'options': options_section,
}

HEADING = """# What retrieval scores cost

Random clustered unit vectors. Each measurement is a process of its own; methods take turns, and medians are shown.

- **bare product**: the matrix product of the same rows in blocks of 512, the number that mmdml takes at N = 60,000, and
  nothing else. Smaller galleries allow larger blocks, which are faster: hence figures below 1.
- **faiss, search alone**: finds 33 neighbors and computes no score.
- **pytorch-metric-learning**: `k='max_bin_count'`; Recall@1, MAP@R and RP. Scores that are closer
  than the rounding of fp32 are compared in fp64 in mmdml, and as they fall there: differences in the fifth digit.
- **mmdml**: Recall@{1, 10, 100, 1000}, MAP@R and RP; **with mAP** also full mAP, MRR and mAP@10. **On faiss** it has to
  ask for 1,000 neighbors, for Recall@1000, which is why the search is slow where the gallery is small.
"""


def main() -> int:
    def bound(section: Callable[[float, int], Table]) -> Callable[[], Table]:
        def run() -> Table:
            return section(args.scale, args.repeats)

        run.__doc__ = section.__doc__
        return run

    page = Page('evaluation', HEADING, {name: bound(section) for name, section in SECTIONS.items()})
    parser = page.parser(__doc__)
    default = parser.get_default('output')
    parser.add_argument('--scale', type=float, default=1.0, help='of the numbers of images; for trying')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--device', help='time 60,000 x 512 there, and print it; no page is written')
    for name in ('--worker', '--folder'):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument('--repeated-galleries', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, Path(args.folder), args.repeated_galleries)
        return 0
    if args.device:
        time_on(args.device, args.scale, args.repeats)
        return 0
    if args.scale != 1 and args.output == default:
        parser.error('--scale is for trying: give an --output, the page in docs is for the full sizes')
    page.measure(args.sections, args.output)
    return 0


if __name__ == '__main__':
    sys.exit(main())
