"""Images a second of a training step: a plain PyTorch loop with pytorch-metric-learning beside mmdml's config.

    python benchmarks/gpu_training.py                # on a GPU: ResNet-50, 128 images of 224 pixels
    python benchmarks/gpu_training.py --tiny         # on a CPU: that all of it runs, no figure

All arms train in one process and take turns, on random images that are on the device already. The plain loop is what
people write: torchvision's ResNet-50, default memory layout, fp32 or fp16 with loss scaling. The bare loop is a plain
one with all options of mmdml's fast arm: what it is ahead is the cost of mmdml's head and model. Timed are many steps
in a row, with one wait for the device at their end.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from mmengine.optim import build_optim_wrapper
from mmpretrain.structures import DataSample
from pytorch_metric_learning.losses import MultiSimilarityLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from torch import Tensor, nn
from torch.nn import functional as F

from mmdml.apis import get_config
from mmdml.registry import MODELS
from mmdml.structures import Embeddings, Progress, StepContext

#: What the fast arms switch on: values of a config.
FAST = dict(channels_last=True, compile_backbone=True)

Step = Callable[[], Any]


class Plain(nn.Module):
    """torchvision's ResNet with an embedding layer."""

    def __init__(self, tiny: bool) -> None:
        super().__init__()
        from torchvision.models import resnet18, resnet50

        self.body = resnet18() if tiny else resnet50()
        self.body.fc = nn.Linear(self.body.fc.in_features, 512)

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.body(images).float())


def plain_step(args: argparse.Namespace, images: Tensor, labels: Tensor, half: bool, fast: bool) -> Step:
    """A step of a plain loop; fast: with the options that mmdml's fast arm has."""
    model = Plain(args.tiny).to(args.device).train()
    mean, std = (
        torch.tensor(v, device=args.device).view(1, 3, 1, 1) for v in ([123.7, 116.3, 103.5], [58.4, 57.1, 57.4])
    )
    if fast:
        model = model.to(memory_format=torch.channels_last)
        if args.compile:
            model.body.compile()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, fused=fast and args.device == 'cuda')
    scaler = torch.amp.GradScaler(args.device, enabled=half and not fast and args.device == 'cuda')
    dtype = torch.bfloat16 if fast or args.device == 'cpu' else torch.float16
    loss, miner = MultiSimilarityLoss(alpha=2, beta=40, base=0.5), MultiSimilarityMiner(epsilon=0.1)

    def step() -> None:
        inputs = (images.float() - mean) / std
        if fast:
            inputs = inputs.to(memory_format=torch.channels_last)
        with torch.autocast(args.device, dtype=dtype, enabled=half):
            embeddings = model(inputs)
        optimizer.zero_grad()
        scaler.scale(loss(embeddings, labels, miner(embeddings, labels))).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def mmdml_step(args: argparse.Namespace, images: Tensor, labels: Tensor, half: bool, fast: bool, name: str) -> Step:
    """A step of mmdml's config of that name."""
    cfg = get_config(name).model
    cfg.backbone.pop('init_cfg', None)
    cfg.freeze_bn_stats = False
    if args.tiny:
        cfg.backbone.depth, cfg.neck.in_channels = 18, 512
    if fast:
        cfg.update({**FAST, 'compile_backbone': args.compile})
    model = MODELS.build(cfg).to(args.device).train()
    optimizer = dict(type='Adam', lr=1e-5, fused=fast and args.device == 'cuda')
    kind = dict(type='OptimWrapper')
    if half and args.device == 'cuda':
        kind = dict(type='AmpOptimWrapper', dtype='bfloat16' if fast else 'float16')
        kind['loss_scale'] = dict(enabled=not fast)
    wrapper = build_optim_wrapper(model, dict(**kind, optimizer=optimizer))
    samples = [DataSample(metainfo=dict(sample_idx=i)).set_gt_label(int(label)) for i, label in enumerate(labels.cpu())]
    if 'iaa' in model.head.sources:
        number = int(labels.max()) + 1
        rows = torch.randn(20 * number, 512, device=args.device)
        classes = torch.arange(number, device=args.device).repeat_interleave(20)
        found = Embeddings(rows, classes, torch.arange(len(rows), device=args.device), number)
        model.head.sources['iaa'].estimator.receive_embeddings(found, Progress(0, 1000, 100))
    at = [999]

    def step() -> None:
        # Past the onset of IAA, at no step of its diagnostics.
        at[0] += 1 + ((at[0] + 2) % 50 == 0)
        model.step = StepContext(Progress(iter=at[0], max_iters=1_000_000, epoch_length=100))
        with torch.autocast(args.device, dtype=torch.bfloat16, enabled=half and args.device == 'cpu'):
            model.train_step(dict(inputs=images, data_samples=samples), wrapper)

    return step


def seconds(step: Step, args: argparse.Namespace) -> float:
    """Seconds a step, of as many in a row."""
    start = time.perf_counter()
    for _ in range(args.steps):
        step()
    if args.device == 'cuda':
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / args.steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tiny', action='store_true', help='ResNet-18, 8 images of 64 pixels, one step a round')
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--steps', type=int, default=20, help='of an arm in a row')
    parser.add_argument('--rounds', type=int, default=5, help='the median of which is printed')
    parser.add_argument('--no-compile', dest='compile', action='store_false')
    args = parser.parse_args()
    args.device = 'cuda' if torch.cuda.is_available() else 'cpu'
    if args.tiny:
        args.batch, args.size, args.steps, args.rounds, args.compile = 8, 64, 1, 1, False
    torch.backends.cudnn.benchmark = True
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (args.batch, 3, args.size, args.size), generator=random, dtype=torch.uint8)
    images, labels = images.to(args.device), torch.arange(args.batch // 4).repeat_interleave(4).to(args.device)
    own = dict(args=args, images=images, labels=labels)
    arms = {
        'plain loop, fp32': plain_step(**own, half=False, fast=False),
        'plain loop, fp16': plain_step(**own, half=True, fast=False),
        'bare loop, all options': plain_step(**own, half=True, fast=True),
        'mmdml, fp32': mmdml_step(**own, half=False, fast=False, name='ms_r50_cub'),
        'mmdml, fp16': mmdml_step(**own, half=True, fast=False, name='ms_r50_cub'),
        'mmdml, all options': mmdml_step(**own, half=True, fast=True, name='ms_r50_cub'),
        'mmdml with IAA, all options': mmdml_step(**own, half=True, fast=True, name='iaa_ms_r50_cub'),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(args.rounds + 1):
        for name, step in arms.items():
            spent = seconds(step, args)
            if turn or args.tiny:  # the first round compiles and tunes
                times[name].append(spent)
    rates = {name: args.batch / statistics.median(spent) for name, spent in times.items()}
    where = torch.cuda.get_device_name() if args.device == 'cuda' else 'CPU'
    print(f'{where}, torch {torch.__version__}, {args.batch} images of {args.size} pixels')
    for name, rate in rates.items():
        print(f'{name:30} {rate:8.0f} images/s  {rate / rates["plain loop, fp32"]:5.2f} of the plain loop in fp32')
    print(f'mmdml of the bare loop: {rates["mmdml, all options"] / rates["bare loop, all options"]:.3f} (aim 0.97)')
    best = max(rates['plain loop, fp32'], rates['plain loop, fp16'])
    print(f'mmdml of the faster plain loop: {rates["mmdml, all options"] / best:.2f} (aim 1.5)')
    share = 1 - rates['mmdml with IAA, all options'] / rates['mmdml, all options']
    print(f'IAA in a step: {100 * share:.1f} % (aim under 3 %)')


if __name__ == '__main__':
    main()
