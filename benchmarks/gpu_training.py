"""Images a second of a training step: a plain PyTorch loop with pytorch-metric-learning beside mmdml's config.

    python benchmarks/gpu_training.py                # on a GPU: ResNet-50, 128 images of 224 pixels
    python benchmarks/gpu_training.py --tiny         # on a CPU: that all of it runs, no figure

All arms train in one process and take turns, on random images that are on the device already. The last one, a config
trained by the Runner, runs after the others: loader, hooks and copies to the device are part of it. The plain loop is
what people write: torchvision's ResNet-50, default memory layout, fp32 or fp16 with loss scaling. The bare loop is a
plain one with all options of mmdml's fast arm: what it is ahead is the cost of mmdml's head and model. Timed are many
steps in a row, with one wait for the device at their end.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmpretrain.structures import DataSample
from pytorch_metric_learning.losses import MultiSimilarityLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from torch import Tensor, nn
from torch.nn import functional as F

from mmdml.apis import get_config
from mmdml.engine import build_runner
from mmdml.registry import DATASETS, MODELS
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
    torch.manual_seed(0)
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

    def step() -> Tensor:
        inputs = (images.float() - mean) / std
        if fast:
            inputs = inputs.to(memory_format=torch.channels_last)
        with torch.autocast(args.device, dtype=dtype, enabled=half):
            embeddings = model(inputs)
        optimizer.zero_grad()
        value = loss(embeddings, labels, miner(embeddings, labels))
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        return value.detach()

    return step


def model_config(args: argparse.Namespace, name: str, fast: bool) -> Any:
    """The model of mmdml's config of that name, without pretrained weights."""
    cfg = get_config(name).model
    cfg.backbone.pop('init_cfg', None)
    cfg.freeze_bn_stats = False
    if args.tiny:
        cfg.backbone.depth, cfg.neck.in_channels = 18, 512
    if fast:
        cfg.update({**FAST, 'compile_backbone': args.compile})
    return cfg


def optimizer_config(args: argparse.Namespace, half: bool, fast: bool) -> dict[str, Any]:
    """Adam, in half precision on a GPU alone: MMEngine's wrapper for it refuses a CPU."""
    kind = dict(type='OptimWrapper')
    if half and args.device == 'cuda':
        kind = dict(type='AmpOptimWrapper', dtype='bfloat16' if fast else 'float16')
        kind['loss_scale'] = dict(enabled=not fast)
    return dict(**kind, optimizer=dict(type='Adam', lr=1e-5, fused=fast and args.device == 'cuda'))


def mmdml_step(args: argparse.Namespace, images: Tensor, labels: Tensor, half: bool, fast: bool, name: str) -> Step:
    """A step of mmdml's config of that name."""
    torch.manual_seed(0)
    model = MODELS.build(model_config(args, name, fast)).to(args.device).train()
    wrapper = build_optim_wrapper(model, optimizer_config(args, half, fast))
    samples = [DataSample(metainfo=dict(sample_idx=i)).set_gt_label(int(label)) for i, label in enumerate(labels.cpu())]
    if 'iaa' in model.head.sources:
        number = int(labels.max()) + 1
        rows = torch.randn(20 * number, 512, device=args.device)
        classes = torch.arange(number, device=args.device).repeat_interleave(20)
        found = Embeddings(rows, classes, torch.arange(len(rows), device=args.device), number)
        model.head.sources['iaa'].estimator.receive_embeddings(found, Progress(0, 1000, 100))
    at = [999]

    def step() -> Tensor:
        # Past the onset of IAA, at no step of its diagnostics.
        at[0] += 1 + ((at[0] + 2) % 50 == 0)
        model.step = StepContext(Progress(iter=at[0], max_iters=1_000_000, epoch_length=100))
        with torch.autocast(args.device, dtype=torch.bfloat16, enabled=half and args.device == 'cpu'):
            return model.train_step(dict(inputs=images, data_samples=samples), wrapper)['loss'].detach()

    return step


def random_batch(batch: int, size: int) -> tuple[Tensor, Tensor]:
    """Random images, always the same, and labels, four of each."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, size, size), generator=random, dtype=torch.uint8)
    return images, torch.arange(batch // 4).repeat_interleave(4)


@DATASETS.register_module()
class RandomImages(torch.utils.data.Dataset):
    """The batch of the other arms, as often as there are steps; made from numbers, since a Runner prints its config."""

    def __init__(self, batch: int, size: int, steps: int) -> None:
        self.images, labels = random_batch(batch, size)
        self.labels, self.steps = labels.tolist(), steps
        self.metainfo = dict(classes=[str(label) for label in labels.unique().tolist()])

    def __len__(self) -> int:
        return self.steps * len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        at = index % len(self.images)
        return dict(
            inputs=self.images[at], data_samples=DataSample(metainfo=dict(sample_idx=at)).set_gt_label(self.labels[at])
        )


class Clock(Hook):
    """The loss of the first step, and seconds a step of each round."""

    priority = 'LOWEST'

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.first, self.spent, self.start = args, None, [], 0.0

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.start = self.start or time.perf_counter()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.first is None:
            self.first = outputs['loss'].item()
        if (runner.iter + 1) % self.args.steps == 0:
            wait(self.args)
            self.spent.append((time.perf_counter() - self.start) / self.args.steps)
            self.start = time.perf_counter()


def run_config(args: argparse.Namespace, name: str) -> tuple[float, list[float]]:
    """Train a config with all options by the Runner: the loss of its first step, and seconds a step of later rounds."""
    steps = args.steps * (args.rounds + 1)
    with tempfile.TemporaryDirectory() as folder:
        cfg = get_config(name)
        start = Path(folder, 'start.pth')
        torch.manual_seed(0)
        torch.save(MODELS.build(model_config(args, name, fast=False)).state_dict(), start)
        loader = dict(
            dataset=dict(type='RandomImages', batch=args.batch, size=args.size, steps=steps),
            batch_size=args.batch,
            num_workers=args.workers,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        )
        hooks = {**cfg.default_hooks, 'checkpoint': None}
        run = Config(
            dict(
                default_scope='mmdml',
                work_dir=folder,
                load_from=str(start),
                model=model_config(args, name, fast=True),
                train_dataloader=loader,
                train_cfg=dict(by_epoch=True, max_epochs=1),
                optim_wrapper=optimizer_config(args, half=True, fast=True),
                default_hooks=hooks,
                env_cfg=dict(cudnn_benchmark=True),
                randomness=dict(seed=0),
                log_level='WARNING',
            )
        )
        runner, clock = build_runner(run), Clock(args)
        runner.register_hook(clock)
        runner.train()
    return clock.first, clock.spent[1:]


def wait(args: argparse.Namespace) -> None:
    if args.device == 'cuda':
        torch.cuda.synchronize()


def seconds(step: Step, args: argparse.Namespace) -> float:
    """Seconds a step, of as many in a row."""
    start = time.perf_counter()
    for _ in range(args.steps):
        step()
    wait(args)
    return (time.perf_counter() - start) / args.steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tiny', action='store_true', help='ResNet-18, 8 images of 64 pixels, one step a round')
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--steps', type=int, default=20, help='of an arm in a row')
    parser.add_argument('--rounds', type=int, default=5, help='the median of which is printed')
    parser.add_argument('--no-compile', dest='compile', action='store_false')
    parser.add_argument('--workers', type=int, default=8, help='loader processes of the arm with the Runner')
    args = parser.parse_args()
    args.device = 'cuda' if torch.cuda.is_available() else 'cpu'
    if args.tiny:
        args.batch, args.size, args.steps, args.rounds, args.compile = 8, 64, 1, 1, False
        args.workers = 0
    torch.backends.cudnn.benchmark = True
    images, labels = random_batch(args.batch, args.size)
    own = dict(args=args, images=images.to(args.device), labels=labels.to(args.device))
    arms = {
        'plain loop, fp32': plain_step(**own, half=False, fast=False),
        'plain loop, fp16': plain_step(**own, half=True, fast=False),
        'bare loop, all options': plain_step(**own, half=True, fast=True),
        'mmdml, fp32': mmdml_step(**own, half=False, fast=False, name='ms_r50_cub'),
        'mmdml, fp16': mmdml_step(**own, half=True, fast=False, name='ms_r50_cub'),
        'mmdml, all options': mmdml_step(**own, half=True, fast=True, name='ms_r50_cub'),
        'mmdml with IAA, all options': mmdml_step(**own, half=True, fast=True, name='iaa_ms_r50_cub'),
    }
    losses = {name: float(step()) for name, step in arms.items()}
    times: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(args.rounds + 1):
        for name, step in arms.items():
            spent = seconds(step, args)
            if turn or args.tiny:  # the first round compiles and tunes
                times[name].append(spent)
    through = 'mmdml, all options, Runner'
    losses[through], times[through] = run_config(args, name='ms_r50_cub')
    rates = {name: args.batch / statistics.median(spent) for name, spent in times.items()}
    where = torch.cuda.get_device_name() if args.device == 'cuda' else 'CPU'
    print(f'{where}, torch {torch.__version__}, {args.batch} images of {args.size} pixels')
    for name, rate in rates.items():
        print(
            f'{name:30} {rate:8.0f} images/s  {rate / rates["plain loop, fp32"]:5.2f} of the plain loop in fp32, '
            f'first loss {losses[name]:.4f}'
        )
    print(f'mmdml of the bare loop: {rates["mmdml, all options"] / rates["bare loop, all options"]:.3f} (aim 0.97)')
    best = max(rates['plain loop, fp32'], rates['plain loop, fp16'])
    print(f'mmdml of the faster plain loop: {rates["mmdml, all options"] / best:.2f} (aim 1.5)')
    beside = rates[through] / rates['mmdml, all options']
    print(f'with loader and hooks of the Runner: {beside:.3f} of the steps alone')
    share = 1 - rates['mmdml with IAA, all options'] / rates['mmdml, all options']
    print(f'IAA in a step: {100 * share:.1f} % (aim under 3 %)')


if __name__ == '__main__':
    main()
