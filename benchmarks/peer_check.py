"""mmdml's baseline beside a plain PyTorch loop with pytorch-metric-learning: same backbone, data, batches and updates.

    python benchmarks/peer_check.py                       # 3 seeds, 150 updates each
    python benchmarks/peer_check.py --updates 2265 --batch 128 --test-classes 659

The plain loop is what a user writes: torch's modules and Adam, ``MultiSimilarityLoss`` with ``MultiSimilarityMiner`` of
pytorch-metric-learning. It gets the images of the same sampler with the same augmentation, and, once, the same first
weights; with --own-weights each arm draws its own. Both are scored on the first test classes of Omniglot by
pytorch-metric-learning's ``AccuracyCalculator``.
"""

import argparse
import os

os.environ.setdefault('OMP_NUM_THREADS', '1')

import copy
import tempfile

import torch
from mmengine.config import Config
from pytorch_metric_learning.losses import MultiSimilarityLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from torch import Tensor, nn
from torch.nn import functional as F

from mmdml.apis import get_config
from mmdml.engine.runner import build_runner
from mmdml.registry import DATA_SAMPLERS, DATASETS

MILESTONE, GAMMA = 2 / 3, 0.2


def config_of(args: argparse.Namespace, seed: int, work_dir: str) -> Config:
    """Multi-similarity on Omniglot, cut to a number of updates, without evaluation."""
    cfg = get_config('ms_conv4_omniglot')
    cfg.train_dataloader.batch_size = cfg.train_dataloader.sampler.batch_size = args.batch
    cfg.train_dataloader.num_workers, cfg.train_dataloader.persistent_workers = 0, False
    cfg.train_dataloader.sampler.num_batches = args.updates
    cfg.train_dataloader.sampler.preset = 'independent'
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
    cfg.param_scheduler = dict(
        type='MultiStepLR', milestones=[int(MILESTONE * args.updates)], gamma=GAMMA, by_epoch=False
    )
    for part in ('val', 'test'):
        for kind in ('dataloader', 'cfg', 'evaluator'):
            cfg[f'{part}_{kind}'] = None
    cfg.work_dir, cfg.randomness, cfg.experiment_name = work_dir, dict(seed=seed), f'peer_{seed}'
    cfg.log_level = 'WARNING'
    return cfg


class Plain(nn.Module):
    """Four convolutions, an average, an embedding layer, as one writes them."""

    def __init__(self) -> None:
        super().__init__()
        blocks = []
        for width in (1, 64, 64, 64):
            blocks += [nn.Conv2d(width, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*blocks)
        self.embedding = nn.Linear(64, 128)

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.embedding(self.body(images / 255).mean((2, 3))))


def plain_loop(cfg: Config, start: dict[str, Tensor] | None, updates: int) -> nn.Module:
    """Train with pytorch-metric-learning on the batches of the config."""
    torch.manual_seed(cfg.randomness.seed + 1000)
    model = Plain()
    if start is not None:
        own = model.state_dict()
        model.load_state_dict(dict(zip(own, _in_order(start, own), strict=True)))
    dataset = DATASETS.build({**cfg.train_dataloader.dataset, 'seed': cfg.randomness.seed})
    sampler = DATA_SAMPLERS.build({**cfg.train_dataloader.sampler, 'dataset': dataset, 'seed': cfg.randomness.seed})
    loss, miner = MultiSimilarityLoss(alpha=2, beta=40, base=0.5), MultiSimilarityMiner(epsilon=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [int(MILESTONE * updates)], GAMMA)
    size, draws = cfg.train_dataloader.batch_size, list(sampler)
    for step in range(updates):
        items = [dataset[draw] for draw in draws[step * size : (step + 1) * size]]
        images = torch.stack([item['inputs'] for item in items]).float()
        labels = torch.cat([item['data_samples'].gt_label for item in items])
        embeddings = model(images)
        optimizer.zero_grad()
        loss(embeddings, labels, miner(embeddings, labels)).backward()
        optimizer.step()
        schedule.step()
    return model


def _in_order(weights: dict[str, Tensor], like: dict[str, Tensor]) -> list[Tensor]:
    """Weights of the same layers in the same order, whatever they are called."""
    values = [value for name, value in weights.items() if name.startswith(('backbone.', 'neck.'))]
    if [value.shape for value in values] != [value.shape for value in like.values()]:
        raise ValueError('the plain network has other layers than the config')
    return values


@torch.no_grad()
def score(embed, dataset, images: int) -> dict[str, float]:
    """Recall@1 and MAP@R in percent of the first images of the test classes."""
    items = [dataset[i] for i in range(images)]
    labels = torch.cat([item['data_samples'].gt_label for item in items])
    inputs = torch.stack([item['inputs'] for item in items]).float()
    found = torch.cat([embed(part) for part in inputs.split(256)])
    names = {'precision_at_1': 'Recall@1', 'mean_average_precision_at_r': 'MAP@R'}
    calculator = AccuracyCalculator(include=tuple(names), k='max_bin_count', device=torch.device('cpu'))
    values = calculator.get_accuracy(found, labels)
    return {short: 100 * values[name] for name, short in names.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--updates', type=int, default=150)
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--test-classes', type=int, default=100)
    parser.add_argument('--own-weights', action='store_true', help='each arm begins with weights of its own')
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, list[dict[str, float]]] = {'mmdml': [], 'plain loop': []}
    test = DATASETS.build(get_config('ms_conv4_omniglot').test_dataloader.dataset)
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            cfg = config_of(args, seed, folder)
            runner = build_runner(copy.deepcopy(cfg))
            start = {name: value.clone() for name, value in runner.model.state_dict().items()}
            runner.train()
        model = runner.model.eval()
        plain = plain_loop(cfg, None if args.own_weights else start, args.updates).eval()
        images = 20 * args.test_classes
        results['mmdml'].append(score(lambda part, model=model: model(part / 255), test, images))
        results['plain loop'].append(score(plain, test, images))
        for name, found in results.items():
            print(
                f'seed {seed}, {name}: ' + ', '.join(f'{key} {value:.2f}' for key, value in found[-1].items()),
                flush=True,
            )
    print(
        f'{args.updates} updates, batches of {args.batch}, {args.seeds} seeds, first {args.test_classes} test classes'
    )
    for key in ('Recall@1', 'MAP@R'):
        own, theirs = (torch.tensor([found[key] for found in results[name]]) for name in results)
        apart = own - theirs
        print(
            f'{key}: mmdml {own.mean():.2f} ± {own.std():.2f}, plain loop {theirs.mean():.2f} ± {theirs.std():.2f}, '
            f'paired difference {apart.mean():+.2f} ± {apart.std():.2f}'
        )


if __name__ == '__main__':
    main()
