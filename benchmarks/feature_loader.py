"""How long an epoch of a :class:`FeatureFile` takes its loader: ``python benchmarks/feature_loader.py``.

60,000 rows of 512 features in 10,000 classes, drawn by ``PKSampler`` in batches of 128.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from mmengine.registry import init_default_scope

import mmdml  # noqa: F401  (first: it makes torchvision importable beside a CPU-only torch)
from mmdml.engine.runner import MetricLearningRunner


def main() -> None:
    """Print seconds of two epochs."""
    init_default_scope('mmdml')
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'features.npz')
        rows = random.standard_normal((60_000, 512), dtype=np.float32)
        np.savez(path, embeddings=rows, labels=random.integers(0, 10_000, len(rows)))
        loader = MetricLearningRunner.build_dataloader(
            dict(
                batch_size=128,
                num_workers=0,
                collate_fn=dict(type='mmdml.collate_features'),
                sampler=dict(type='PKSampler', batch_size=128, images_per_class=4),
                dataset=dict(type='FeatureFile', ann_file=str(path)),
            ),
            seed=0,
        )
        for epoch in range(2):
            cpu, clock = time.process_time(), time.perf_counter()
            drawn = sum(len(batch['inputs']) for batch in loader)
            cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
            print(f'epoch {epoch}: {drawn:,} rows, {cpu:.2f} s of CPU time, {clock:.2f} s by the clock')


if __name__ == '__main__':
    main()
