"""Embed a whole dataset once, on all ranks, in dataset order."""

from collections.abc import Callable
from typing import Any

import torch
from mmengine.dataset import default_collate
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from mmdml.dist import gather_uneven, get_rank, get_world_size, shard
from mmdml.structures import Embeddings, indices_of
from mmdml.utils.processes import worker_options
from mmdml.utils.seeding import Stream, torch_generator


@torch.no_grad()
def sweep(
    model: nn.Module,
    dataset: Dataset,
    batch_size: int,
    num_workers: int = 0,
    with_features: bool = False,
    collate_fn: Callable[[list], Any] = default_collate,
) -> Embeddings:
    """One pass over a dataset in evaluation mode, without gradient, in fp32.

    Each rank embeds a contiguous part; every image counts once, whatever the number of ranks. An image that could not
    be read has no row (the other of its class that a dataset may show instead keeps its own). The global random state
    is left as it was.

    Args:
        model: an ``ImageEmbedder`` (not wrapped).
        dataset: an mmdml dataset: ``labels (N,)``, and items that the model's preprocessor takes.
        batch_size: images a step and rank.
        num_workers: loader processes.
        with_features: also return the pooled features.
        collate_fn: of the loader.
    """
    start, stop = shard(len(dataset), get_rank(), get_world_size())
    loader = DataLoader(
        Subset(dataset, range(start, stop)),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=collate_fn,
        # A loader without a generator of its own would draw its base seed from the global one.
        generator=torch_generator(Stream.SWEEP_WORKERS, 0),
        **worker_options(num_workers),
    )
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    indices, raw, features = [], [], []
    for batch in loader:
        batch = model.data_preprocessor(batch, False)
        pooled = model.extract_feat(batch['inputs'])
        indices.append(indices_of(batch['data_samples']))
        raw.append(model.neck(pooled).float())
        if with_features:
            features.append(pooled.float())
    model.train(was_training)

    found = torch.cat(indices)
    if len(found) and int(found.min()) < 0:
        raise ValueError('a sweep needs the sample_idx of every image; does the pipeline end with PackInputs?')
    found = gather_uneven(found.to(device))
    indices, position = _first_occurrences(found)
    return Embeddings(
        raw=gather_uneven(torch.cat(raw))[position],
        labels=torch.tensor(dataset.labels, device=device)[indices],
        indices=indices,
        num_classes=num_classes_of(dataset),
        features=gather_uneven(torch.cat(features))[position] if with_features else None,
    )


def num_classes_of(dataset: Dataset) -> int:
    """Return the number of classes of an mmdml dataset."""
    return len(dataset.metainfo['classes'])


def _first_occurrences(found: Tensor) -> tuple[Tensor, Tensor]:
    """Rising distinct indices, and where each stands first."""
    order = torch.argsort(found, stable=True)
    rising = found[order]
    first = torch.ones_like(rising, dtype=torch.bool)
    first[1:] = rising[1:] != rising[:-1]
    return rising[first], order[first]
