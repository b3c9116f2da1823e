"""Proxies of a million classes on one rank and sharded over two: loss, gradients, memory.

    python benchmarks/sharded_proxies.py --classes 1000000 --dim 32 --rows 32

Ranks are processes of this machine (gloo). Each takes two steps of Adam; printed are the loss, the largest differences
of the gradients of rows and proxies from those of one rank, and each process's peak memory above what it had before the
loss was built.
"""

import argparse
import os
import resource
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn import functional as F

import mmdml.models  # noqa: F401
from mmdml.dist import gather_rows
from mmdml.registry import MODELS
from mmdml.structures import PairBatch, Rows


def peak_mb() -> float:
    """Peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(rank: int, ranks: int, folder: str, args: argparse.Namespace) -> None:
    """Two steps on one rank; its part of the rows and of the proxies."""
    torch.set_num_threads(1)
    if ranks > 1:
        dist.init_process_group('gloo', init_method=f'file://{folder}/meet{ranks}', rank=rank, world_size=ranks)
    random = torch.Generator().manual_seed(0)
    raw = torch.randn(args.rows, args.dim, generator=random)
    labels = torch.randint(0, args.classes, (args.rows,), generator=random)
    part = slice(rank * args.rows // ranks, (rank + 1) * args.rows // ranks)
    before = peak_mb()
    torch.manual_seed(0)
    loss = MODELS.build(dict(type=args.loss, num_classes=args.classes, embed_dim=args.dim, sharded=True))
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.01)
    found = {}
    for step in range(2):
        rows = raw[part].clone().requires_grad_()
        gathered = gather_rows(Rows.of_batch(rows, labels[part]))
        gathered = gathered.with_embeddings(F.normalize(gathered.embeddings, dim=1))
        value = loss(PairBatch(gathered, gathered))
        optimizer.zero_grad()
        value.backward()
        # What DistributedDataParallel does to the gradients behind the rows.
        found[step] = dict(loss=value.item(), rows=rows.grad / ranks, proxies=loss.proxies.grad.clone())
        optimizer.step()
    found['peak'] = peak_mb() - before
    torch.save(found, f'{folder}/{ranks}_{rank}.pth')
    if ranks > 1:
        dist.barrier()
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--classes', type=int, default=1_000_000)
    parser.add_argument('--dim', type=int, default=32)
    parser.add_argument('--rows', type=int, default=32, help='of all ranks together')
    parser.add_argument('--loss', default='CosFaceLoss')
    args = parser.parse_args()
    os.environ['OMP_NUM_THREADS'] = '1'
    with tempfile.TemporaryDirectory() as folder:
        for ranks in (1, 2):
            mp.spawn(work, (ranks, folder, args), nprocs=ranks)
        one = torch.load(Path(folder, '1_0.pth'))
        two = [torch.load(Path(folder, f'2_{rank}.pth')) for rank in range(2)]
    print(f'{args.loss}, {args.classes:,} classes, D = {args.dim}, {args.rows} rows')
    for step in range(2):
        print(f'step {step}: loss {one[step]["loss"]:.6f} on one rank, {two[0][step]["loss"]:.6f} on two')
        for name in ('rows', 'proxies'):
            joined = torch.cat([each[step][name] for each in two])
            scale = one[step][name].abs().max()
            difference = (joined - one[step][name]).abs().max() / scale
            print(f'  gradient of {name}: largest difference {difference:.1e} of the largest')
    print(f'peak memory: {one["peak"]:.0f} MB on one rank, {max(each["peak"] for each in two):.0f} MB on each of two')


if __name__ == '__main__':
    main()
