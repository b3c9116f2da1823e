"""What a batch in chunks costs: peak memory and CPU time of one forward and backward pass, one process each.

python benchmarks/chunks.py --batch 128 --chunks 0 16
"""

import os

# Before torch is imported: its thread pools are sized once.
os.environ['OMP_NUM_THREADS'] = '1'

import argparse
import resource
import time

import torch
import torch.multiprocessing as mp
from mmpretrain.structures import DataSample

from mmdml.models import ImageEmbedder


def measure(_: int, batch: int, chunk_size: int) -> None:
    """Print what one step adds to this process."""
    torch.set_num_threads(1)
    model = ImageEmbedder(
        backbone=dict(type='mmpretrain.MobileNetV2'),
        neck=dict(type='LinearEmbedding', in_channels=1280, embed_dim=128),
        head=dict(type='EmbeddingHead', loss=dict(type='MultiSimilarityLoss')),
        freeze_bn_stats=True,
        chunk_size=chunk_size or None,
    ).train()
    inputs = torch.randn(batch, 3, 96, 96)
    samples = [DataSample().set_gt_label(number // 4) for number in range(batch)]
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    model(inputs, samples, mode='loss')['loss'].backward()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    seconds = time.process_time() - start
    print(f'batch {batch}, chunk_size {chunk_size or None}: {grown:,.0f} MiB, {seconds:.1f} s of CPU time', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--chunks', type=int, nargs='+', default=[0, 16], help='0: the whole batch at once')
    args = parser.parse_args()
    for chunk_size in args.chunks:
        mp.spawn(measure, args=(args.batch, chunk_size), nprocs=1)


if __name__ == '__main__':
    main()
