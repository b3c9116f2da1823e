"""What losses over pairs and miners cost on one core, beside pytorch-metric-learning.

    python benchmarks/losses.py                          # all sections, into docs/benchmarks/losses.md
    python benchmarks/losses.py --sections pairs         # only some; the other sections of the page stay

Every ratio is that of medians of process CPU time with one thread, of calls that take turns, forward and backward
from raw embeddings on random data.
"""

import os

# Before torch is imported: its thread pools are sized once.
os.environ['OMP_NUM_THREADS'] = os.environ['MKL_NUM_THREADS'] = '1'

import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch
from common import Page, Table, alternating_cpu_seconds, milliseconds
from torch.nn import functional as F

from mmdml.registry import MODELS, TASK_UTILS
from mmdml.structures import PairBatch, Rows

DIM, BATCHES, ROUNDS = 512, (128, 512), 5
#: Losses of pytorch-metric-learning whose memory at B = 512 is some gigabytes.
CUBIC = ('NTXentLoss', 'LiftedStructureLoss', 'TupletMarginLoss', 'SmoothAPLoss')


def sides(
    head: dict[str, Any], other: Callable[..., Any], miner: Any, batch: int
) -> tuple[torch.Tensor, dict[str, Callable[[], None]]]:
    """Raw rows, 4 of a class, and a step of our loss and one of pytorch-metric-learning's on them."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(batch // 4).repeat_interleave(4)
    centers = torch.randn(batch // 4, DIM, generator=random)
    raw = (centers[labels] + 2 * torch.randn(batch, DIM, generator=random)).requires_grad_()
    loss = MODELS.build(head['loss'])
    our_miner = TASK_UTILS.build(head['miner']) if 'miner' in head else None

    def own() -> None:
        raw.grad = None
        pairs = PairBatch.from_embeddings(F.normalize(raw), labels)
        loss(pairs, our_miner(pairs.detach()) if our_miner else None).backward()

    def theirs() -> None:
        raw.grad = None
        unit = F.normalize(raw)
        other(unit, labels, miner(unit, labels) if miner else None).backward()

    return raw.detach(), {'own': own, 'theirs': theirs}


def measured(head: dict[str, Any], other: Callable[..., Any], miner: Any, batch: int) -> tuple[float, float]:
    """Seconds of a step of our loss and of one of pytorch-metric-learning's."""
    times = alternating_cpu_seconds(sides(head, other, miner, batch)[1], ROUNDS)
    return statistics.median(times['own']), statistics.median(times['theirs'])


def pairs_section() -> Table:
    """A loss over pairs, forward and backward from raw embeddings (D = 512, 4 images a class).

    Without those peers at B = 512 that need gigabytes there: tables of all positive by all negative pairs, or of B x B
    x B numbers.
    """
    from pytorch_metric_learning import losses, miners

    cases: list[tuple[dict[str, Any], Any, Any]] = [
        (dict(loss=dict(type='NTXentLoss')), losses.NTXentLoss(), None),
        (dict(loss=dict(type='SupConLoss')), losses.SupConLoss(), None),
        (dict(loss=dict(type='CircleLoss')), losses.CircleLoss(), None),
        (dict(loss=dict(type='LiftedStructureLoss')), losses.LiftedStructureLoss(), None),
        (dict(loss=dict(type='GeneralizedLiftedStructureLoss')), losses.GeneralizedLiftedStructureLoss(), None),
        (dict(loss=dict(type='AngularLoss')), losses.AngularLoss(), None),
        (dict(loss=dict(type='TupletMarginLoss')), losses.TupletMarginLoss(), None),
        (dict(loss=dict(type='HistogramLoss')), losses.HistogramLoss(), None),
        (dict(loss=dict(type='FastAPLoss')), losses.FastAPLoss(), None),
        (dict(loss=dict(type='SmoothAPLoss')), losses.SmoothAPLoss(), None),
        (dict(loss=dict(type='RankedListLoss')), losses.RankedListLoss(margin=0.4, Tn=10), None),
        (dict(loss=dict(type='TCMLoss')), losses.ThresholdConsistentMarginLoss(), None),
        (
            dict(loss=dict(type='TripletLoss', negatives='all', reduction='nonzero')),
            losses.TripletMarginLoss(margin=0.2),
            None,
        ),
        (
            dict(loss=dict(type='TripletLoss', reduction='mean'), miner=dict(type='EasyPositiveMiner')),
            losses.TripletMarginLoss(margin=0.2),
            miners.BatchEasyHardMiner(),
        ),
    ]
    lines = []
    for head, other, miner in cases:
        name = f'`{head["loss"]["type"]}`' + (f' + `{head["miner"]["type"]}`' if 'miner' in head else '')
        name += ', all negatives' if head['loss'].get('negatives') == 'all' else ''
        peer = f'`{type(other).__name__}`' + (f' + `{type(miner).__name__}`' if miner else '')
        for batch in BATCHES[:1] if type(other).__name__ in CUBIC else BATCHES:
            own, theirs = measured(head, other, miner, batch)
            lines.append((name, batch, milliseconds(own), milliseconds(theirs), peer, f'{own / theirs:.2f}'))
            print(*lines[-1], file=sys.stderr, flush=True)
    return ('loss', 'B', 'mmdml', 'PML', 'in PML', 'ratio (aim <= 1)'), lines


def miners_section() -> Table:
    """A miner alone, from unit embeddings (D = 512, 4 images a class); without the cube of AngularMiner at B = 512."""
    from pytorch_metric_learning import miners

    cases = [
        (dict(type='EasyHardMiner', positives='hard'), miners.BatchEasyHardMiner('hard', 'semihard')),
        (dict(type='PairMarginMiner'), miners.PairMarginMiner()),
        (dict(type='TripletMarginMiner'), miners.TripletMarginMiner()),
        (dict(type='TripletMarginMiner', kind='semi-hard'), miners.TripletMarginMiner(type_of_triplets='semihard')),
        (dict(type='AngularMiner'), miners.AngularMiner()),
        (dict(type='HardFractionMiner'), miners.HDCMiner()),
    ]
    lines = []
    for config, other in cases:
        miner = TASK_UTILS.build(config)
        for batch in BATCHES[:1] if type(other).__name__ == 'AngularMiner' else BATCHES:
            random = torch.Generator().manual_seed(0)
            labels = torch.arange(batch // 4).repeat_interleave(4)
            centers = torch.randn(batch // 4, DIM, generator=random)
            unit = F.normalize(centers[labels] + 2 * torch.randn(batch, DIM, generator=random))
            times = alternating_cpu_seconds(
                {
                    'own': lambda miner=miner, unit=unit, labels=labels: miner(PairBatch.from_embeddings(unit, labels)),
                    'theirs': lambda other=other, unit=unit, labels=labels: other(unit, labels),
                },
                ROUNDS,
            )
            own, theirs = (statistics.median(times[name]) for name in ('own', 'theirs'))
            options = ' '.join(f'{value}' for key, value in config.items() if key != 'type')
            lines.append(
                (
                    f'`{config["type"]}` {options}'.strip(),
                    batch,
                    milliseconds(own),
                    milliseconds(theirs),
                    f'`{type(other).__name__}`',
                    f'{own / theirs:.2f}',
                )
            )
            print(*lines[-1], file=sys.stderr, flush=True)
    return ('miner', 'B', 'mmdml', 'PML', 'in PML', 'ratio (aim <= 1)'), lines


def large_section() -> Table:
    """Many classes, many remembered rows, and semi-hard triplets (D = 512, 4 images a class).

    Proxies of 11,318 classes, the training classes of Stanford Online Products; 8,192 candidates of a memory beside the
    batch; in both, forward and backward from raw embeddings. Semi-hard triplets are mined and scored at B = 512.

    Beside them the matrix products alone, which no exact loss can do without: similarities, and of their gradient that
    of the batch and that of whatever else learns.
    """
    from pytorch_metric_learning import losses, miners

    classes, remembered, lines = 11_318, 8_192, []
    random = torch.Generator().manual_seed(0)
    labels = torch.randperm(classes, generator=random)[:32].repeat_interleave(4)
    raw = torch.randn(128, DIM, generator=random).requires_grad_()
    old = F.normalize(torch.randn(remembered, DIM, generator=random))
    old_labels = torch.randint(0, classes, (remembered,), generator=random)

    def compare(
        name: str, peer: str, rows: torch.Tensor, others: torch.Tensor, learned: int, aim: str, **calls: Callable
    ) -> None:
        gradient = torch.randn(len(rows), len(others), generator=random)

        def products() -> None:
            rows @ others.t()
            gradient @ others
            gradient[:, :learned].t() @ rows

        times = alternating_cpu_seconds({**calls, 'products': products}, ROUNDS)
        ours, other, least = (statistics.median(times[key]) for key in ('own', 'theirs', 'products'))
        seconds = (milliseconds(value) for value in (ours, other, least))
        lines.append((name, len(rows), *seconds, peer, f'{ours / other:.2f}', f'{least / other:.2f}', aim))
        print(*lines[-1], file=sys.stderr, flush=True)

    peers = {
        'NormSoftmaxLoss': losses.NormalizedSoftmaxLoss(classes, DIM, temperature=0.05),
        'CosFaceLoss': losses.CosFaceLoss(classes, DIM),
        'ArcFaceLoss': losses.ArcFaceLoss(classes, DIM),
        'ProxyAnchorLoss': losses.ProxyAnchorLoss(classes, DIM),
        'ProxyNCAPlusPlusLoss': losses.ProxyNCALoss(classes, DIM, softmax_scale=9),
    }
    for name, other in peers.items():
        loss = MODELS.build(dict(type=name, num_classes=classes, embed_dim=DIM))

        def own(loss: Any = loss) -> None:
            loss.zero_grad()
            loss(PairBatch.from_embeddings(F.normalize(raw), labels)).backward()

        def theirs(other: Any = other) -> None:
            other.zero_grad()
            other(raw, labels).backward()

        name, proxies = f'`{name}`, {classes:,} classes', loss.proxies.detach()
        compare(name, f'`{type(other).__name__}`', raw.detach(), proxies, classes, 'half', own=own, theirs=theirs)

    for name, other in {
        'ContrastiveLoss': losses.ContrastiveLoss(),
        'SupConLoss': losses.SupConLoss(),
        'MultiSimilarityLoss': losses.MultiSimilarityLoss(),
    }.items():
        loss = MODELS.build(dict(type=name))

        def own(loss: Any = loss) -> None:
            raw.grad = None
            anchors = Rows.of_batch(F.normalize(raw), labels)
            views = torch.full((remembered, 1), -1)
            loss(PairBatch(anchors, Rows.cat([anchors, Rows(old, old_labels, views)]))).backward()

        def theirs(other: Any = other) -> None:
            raw.grad = None
            unit = F.normalize(raw)
            joined, all_labels = torch.cat([unit, old]), torch.cat([labels, old_labels])
            anchor, positive, first, negative = other_pairs(labels, all_labels)
            other(unit, labels, (anchor, positive, first, negative), joined, all_labels).backward()

        name, both = f'`{name}`, {remembered:,} remembered rows', torch.cat([raw.detach(), old])
        compare(name, f'`{type(other).__name__}`', raw.detach(), both, len(raw), 'half', own=own, theirs=theirs)

    head = dict(loss=dict(type='TripletLoss', reduction='mean'), miner=dict(type='SemiHardMiner'))
    miner = miners.TripletMarginMiner(margin=0.2, type_of_triplets='semihard')
    raw, calls = sides(head, losses.TripletMarginLoss(margin=0.2), miner, 512)
    name, peer = '`TripletLoss` + `SemiHardMiner`', '`TripletMarginLoss` + `TripletMarginMiner`'
    compare(name, peer, raw, raw, len(raw), 'a tenth', **calls)
    return ('loss', 'B', 'mmdml', 'PML', 'products', 'in PML', 'ratio', 'of the products', 'aim'), lines


def other_pairs(labels: torch.Tensor, all_labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Indices of all pairs of a batch with itself and a memory, without rows paired with themselves."""
    same = labels[:, None] == all_labels
    different = ~same
    same[:, : len(labels)].fill_diagonal_(False)
    return (*same.nonzero(as_tuple=True), *different.nonzero(as_tuple=True))


HEADING = '# What losses cost\n\nMedian process CPU time of five runs on one core, random data.\n'


def main() -> int:
    page = Page('losses', HEADING, {'pairs': pairs_section, 'miners': miners_section, 'large': large_section})
    args = page.parser(__doc__).parse_args()
    page.measure(args.sections, args.output)
    return 0


if __name__ == '__main__':
    sys.exit(main())
