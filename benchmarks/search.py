"""What embedding pictures and searching among them cost, each beside its bound in the same run.

    python benchmarks/search.py                                  # into docs/benchmarks/search.md
    python benchmarks/search.py --sections exact
    python benchmarks/search.py --rows 20000 --pictures 30 --rounds 1 --output /tmp/try.md    # to see it work

Process CPU times with one thread; what is compared takes turns in the same process. Medians.
"""

import os

# Before torch and faiss are imported: their thread pools are sized once.
os.environ['OMP_NUM_THREADS'] = os.environ['MKL_NUM_THREADS'] = os.environ['OPENBLAS_NUM_THREADS'] = '1'

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import faiss
import numpy as np
import torch
from common import Page, Table, alternating_cpu_seconds
from input_pipeline import write_pictures

from mmdml.apis import ImageEmbeddingInferencer, get_model
from mmdml.apis.demo_gallery import DEMO_GALLERY
from mmdml.index import FaissStore, Item, LocalStore
from mmdml.index.structures import STRUCTURES, Structure

NEIGHBORS = 10
EMBED_AIM, EXACT_AIM, RECALL_AIM = 0.95, 1.2, 0.95


# ---- data ------------------------------------------------------------------------------------------------------------


def unit_rows(number: int, dimensions: int, seed: int, centers: int) -> np.ndarray:
    """Unit vectors around random centers, which all seeds share."""
    found = np.empty((number, dimensions), np.float32)
    middle = np.random.default_rng(99).standard_normal((centers, dimensions), dtype=np.float32)
    random = np.random.default_rng(seed)
    for start in range(0, number, 1 << 16):
        part = found[start : start + (1 << 16)]
        part[:] = middle[random.integers(0, centers, len(part))]
        part += 0.7 * random.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return found


def fill(store: LocalStore, vectors: np.ndarray) -> float:
    """Add vectors to a store, and return the CPU seconds that it took."""
    began = time.process_time()
    for start in range(0, len(vectors), 1 << 14):
        part = vectors[start : start + (1 << 14)]
        store.add(part, [Item(f'{start + number}.jpg') for number in range(len(part))])
    return time.process_time() - began


def recall(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.mean([np.isin(row, wanted).mean() for row, wanted in zip(found, true, strict=True)]))


# ---- sections --------------------------------------------------------------------------------------------------------


def embed_section(pictures: int, rounds: int) -> Table:
    """`ImageEmbeddingInferencer` beside the forward pass alone, and beside reading and resizing alone.

    Where the model is the limit: ResNet-50 at 224 x 224 on photographs of 112 pixels. Where decoding is: a network of
    four thin convolutions at 28 x 28 on JPEGs of 2000 x 1500 and of 500 x 375. The bare forward pass has the inputs in
    memory, the bare decoding is `cv2.imread` and `cv2.resize`. One thread does all, so that nothing hides behind
    anything. Aim: 95 % of the one that is the limit.
    """
    lines = []
    thin = dict(
        backbone=dict(channels=8, in_channels=3),
        neck=dict(in_channels=8, embed_dim=64),
        data_preprocessor=dict(mean=[127.0] * 3, std=[64.0] * 3),
    )
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), pictures)
        small = list(map(str, sorted(Path(folder).glob('*/*.jpg'))))
        large = [path.replace('.jpg', '_large.jpg') for path in small]
        for path, larger in zip(small, large, strict=True):
            cv2.imwrite(larger, cv2.resize(cv2.imread(path), (2000, 1500), interpolation=cv2.INTER_CUBIC))
        photographs = list(map(str, sorted(DEMO_GALLERY.glob('*/*.jpg'))[::8][:pictures]))
        for limit, name, options, side, paths in (
            ('model', 'ms_r50_cub', {}, 224, photographs),
            ('decoding, 2000 x 1500', 'ms_conv4_omniglot', thin, 28, large),
            ('decoding, 500 x 375', 'ms_conv4_omniglot', thin, 28, small),
        ):
            model = get_model(name, False, **options)
            pipeline = [
                dict(type='LoadImageFromFile'),
                dict(type='mmpretrain.Resize', scale=(side, side)),
                dict(type='mmpretrain.PackInputs'),
            ]
            embed = ImageEmbeddingInferencer(model, pipeline=pipeline, device='cpu', workers=1, progress=False)
            decoded = np.stack([cv2.resize(cv2.imread(path), (side, side)) for path in paths])
            inputs = torch.from_numpy(decoded).permute(0, 3, 1, 2).float().contiguous()
            inputs = (inputs - 127) / 64

            @torch.no_grad()
            def forward(model=model, inputs=inputs):
                for start in range(0, len(inputs), 32):
                    model(inputs[start : start + 32])

            def decode(paths=paths, side=side):
                for path in paths:
                    cv2.resize(cv2.imread(path), (side, side))

            calls = {'embed': lambda embed=embed, paths=paths: embed(paths), 'forward': forward, 'decoding': decode}
            times = alternating_cpu_seconds(calls, rounds)
            per_picture = {call: 1000 * statistics.median(found) / len(paths) for call, found in times.items()}
            bound = per_picture['forward' if limit == 'model' else 'decoding']
            share = bound / per_picture['embed']
            both = (per_picture['forward'] + per_picture['decoding']) / per_picture['embed']
            reached = 'reached' if share >= EMBED_AIM else 'missed'
            costs = [f'{per_picture[call]:.2f} ms' for call in ('embed', 'forward', 'decoding')]
            lines.append((limit, *costs, f'{share:.0%}', f'{both:.0%}', reached))
    headers = ('limit', 'embed', 'bare forward', 'bare decoding', 'of the limit', 'of both', f'aim {EMBED_AIM:.0%}')
    return headers, lines


def exact_section(rounds: int) -> Table:
    """An exact search of the local store among 100,000 x 256, beside faiss' `IndexFlatIP`.

    The store's time includes the look at SQLite for rows that others added. Aim: at most 1.2 of faiss' time.
    """
    vectors = unit_rows(100_000, 256, 0, 1000)
    flat = faiss.IndexFlatIP(256)
    flat.add(vectors)
    lines = []
    with tempfile.TemporaryDirectory() as folder, LocalStore.open(folder, 256, 'model', write=True) as store:
        fill(store, vectors)
        for number in (1, 10, 100, 1000):
            queries = unit_rows(number, 256, 1, 1000)
            calls = {
                'store': lambda queries=queries: store.search(queries, NEIGHBORS),
                'faiss': lambda queries=queries: flat.search(queries, NEIGHBORS),
            }
            repeats = max(1, 30 // number)
            calls = {name: lambda call=call, n=repeats: [call() for _ in range(n)] for name, call in calls.items()}
            times = alternating_cpu_seconds(calls, rounds)
            store_time, faiss_time = (
                1000 * statistics.median(times[name]) / repeats / number for name in ('store', 'faiss')
            )
            ratio = store_time / faiss_time
            reached = 'reached' if ratio <= EXACT_AIM else 'missed'
            lines.append((number, f'{store_time:.2f} ms', f'{faiss_time:.2f} ms', f'{ratio:.2f}', reached))
    return ('queries at a time', 'store, a query', 'faiss flat, a query', 'ratio', f'aim {EXACT_AIM}'), lines


def structures_section(rows: int, rounds: int, structures: Sequence[str]) -> Table:
    """The search structures, each with the least effort that finds 95 % of the exact ten neighbors, beside faiss' own.

    Unit vectors of 128 dimensions, 100 around each of random centers; 1,000 queries at a time, and 200 others that the
    effort is chosen by. `faiss` is the same index with the vectors again behind it (`IndexRefineFlat`), which rescores
    as the store does; `ivfpq` and `binary` alone do not reach 95 % by their codes. `flat` is `IndexFlatIP`. Effort is
    what the index searches (`efSearch`, `nprobe`) and the candidates for each neighbor. Memory is that of the
    structure; the vectors are mapped from their file, 512 bytes a row, and faiss holds as much in memory. The
    store's build has the measurement of the recall in it.
    """
    centers = max(1, rows // 100)
    vectors, queries = unit_rows(rows, 128, 0, centers), unit_rows(1000, 128, 1, centers)
    tuning = unit_rows(200, 128, 2, centers)
    lines = []
    with tempfile.TemporaryDirectory() as folder, FaissStore.open(folder, 128, 'model', write=True) as store:
        seconds = fill(store, vectors)
        flat = faiss.IndexFlatIP(128)
        flat.add(vectors)
        true, wanted = (LocalStore.search(store, each, NEIGHBORS).ids for each in (queries, tuning))
        if 'flat' in structures:
            calls = {
                'store': lambda: LocalStore.search(store, queries, NEIGHBORS),
                'faiss': lambda: flat.search(queries, NEIGHBORS),
            }
            rates = rates_of(calls, len(queries), rounds)
            lines.append(('flat', '', '0 s', '0', '1.000', rates['store'], '', '0 s', '1.000', rates['faiss']))
            print(f'{rows:,} rows added in {seconds:.0f} s; {lines[-1]}', flush=True)
        for kind in [kind for kind in ('int8', 'binary', 'ivfpq', 'hnsw') if kind in structures]:
            began, filled = time.process_time(), []
            store.build(kind, recall=RECALL_AIM, progress=lambda done, at=filled: at.append(time.process_time()))
            built, alone = time.process_time() - began, filled[-1] - began
            loaded = store._load()
            structure, size = loaded.structure, (Path(folder) / 'structure.faiss').stat().st_size / rows
            assert type(structure) is STRUCTURES[kind]
            refined = faiss.IndexRefineFlat(structure.index, faiss.swig_ptr(vectors))

            def search_store(asked, effort, structure=structure):
                structure.effort = effort
                return store.search(asked, NEIGHBORS).ids

            def search_faiss(asked, effort, structure=structure, refined=refined, ids=loaded.ids, kind=kind):
                value, factor = structure.efforts[effort]
                options = dict(
                    hnsw=lambda: faiss.SearchParametersHNSW(efSearch=max(value, factor * NEIGHBORS)),
                    ivfpq=lambda: faiss.SearchParametersIVF(nprobe=value),
                ).get(kind, lambda: None)()
                options = faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=options)
                return ids[refined.search(asked, NEIGHBORS, params=options)[1]]

            searches = {'store': search_store, 'faiss': search_faiss}
            efforts = {name: least_effort(structure, call, tuning, wanted) for name, call in searches.items()}
            calls = {
                name: lambda call=call, effort=efforts[name]: call(queries, effort) for name, call in searches.items()
            }
            rates = rates_of(calls, len(queries), rounds)
            shown = {name: ' x '.join(map(str, structure.efforts[effort])) for name, effort in efforts.items()}
            found = {name: f'{recall(call(), true):.3f}' for name, call in calls.items()}
            own = (shown['store'], f'{built:.0f} s', f'{size:.0f}', found['store'], rates['store'])
            lines.append((kind, *own, shown['faiss'], f'{alone:.0f} s', found['faiss'], rates['faiss']))
            print(lines[-1], flush=True)
    ours = ('effort', 'build', 'bytes a row', 'recall@10', 'queries/s')
    theirs = ('effort, faiss', 'build, faiss', 'recall@10, faiss', 'queries/s, faiss')
    return (f'structure of {rows:,} rows', *ours, *theirs), lines


def least_effort(structure: Structure, search: Callable, queries: np.ndarray, true: np.ndarray) -> int:
    """Return the least effort whose recall on these queries reaches the aim, the largest if none does."""
    efforts = range(len(structure.efforts))
    return next((each for each in efforts if recall(search(queries, each), true) >= RECALL_AIM), efforts[-1])


def rates_of(calls: dict[str, Callable], number: int, rounds: int) -> dict[str, str]:
    """Return queries a second of calls that search by so many."""
    times = alternating_cpu_seconds(calls, rounds, 0)
    return {name: f'{number / statistics.median(found):,.0f}' for name, found in times.items()}


HEADING = """# What search costs

Process CPU time of one thread; what is compared took turns in one process. Other processes shared the machine while
this was measured, so that ratios say more than milliseconds.

Where decoding small pictures is the limit, `embed` stays below 95 % of it: beside decoding and the forward pass a
picture costs 0.2 ms of Python, for its transforms, its place in a batch and its way from thread to thread.
"""


def main() -> int:
    def bound(section: Callable[..., Table], *names: str) -> Callable[[], Table]:
        def run() -> Table:
            return section(**{name: getattr(args, name) for name in names})

        run.__doc__ = section.__doc__
        return run

    sections = {
        'embed': bound(embed_section, 'pictures', 'rounds'),
        'exact': bound(exact_section, 'rounds'),
        'structures': bound(structures_section, 'rows', 'rounds', 'structures'),
    }
    page = Page('search', HEADING, sections)
    parser = page.parser(__doc__)
    parser.add_argument('--pictures', type=int, default=60, help='number of pictures to embed')
    parser.add_argument('--rows', type=int, default=1_000_000, help='of the table of structures')
    kinds = ['flat', *STRUCTURES]
    parser.add_argument('--structures', nargs='+', default=kinds, choices=kinds, help='of the table')
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    cv2.setNumThreads(0)
    faiss.omp_set_num_threads(1)
    page.measure(args.sections, args.output)
    return 0


if __name__ == '__main__':
    sys.exit(main())
