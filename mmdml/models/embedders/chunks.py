"""A large batch through a model in parts, in the memory of one part (GradCache)."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdml.utils.norm_statistics import statistics_kept


def in_chunks(function: Callable[[Tensor], Tensor], inputs: Tensor, size: int, model: nn.Module) -> Tensor:
    """Apply a function to parts of a batch, and keep for the backward pass nothing but the inputs.

    Gao et al., *Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup*, RepL4NLP 2021: the loss needs
    the embeddings of the whole batch, but the gradient of a part needs the activations of that part only, so they are
    computed twice, the second time when the backward pass reaches the part. torch's activation checkpointing of each
    part does this within one backward pass: parameter gradients are summed as always, before any hook, and ranks,
    gradient scaling and accumulation go on as without it. Random numbers and autocast of the second time are
    those of the first one; running statistics of batch norms are updated the first time only.

    Args:
        function: from ``(b, ...)`` to ``(b, ...)``, each row by itself; a batch norm with the statistics of its batch
            sees one part at a time.
        inputs: ``(B, ...)``.
        size: rows of a part; the last one may have fewer.
        model: owner of the batch norms.
    """
    if len(inputs) <= size:
        return function(inputs)
    parts = inputs.split(size)
    if not torch.is_grad_enabled():
        return torch.cat([function(part) for part in parts])

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), statistics_kept(model)

    return torch.cat([checkpoint(function, part, use_reentrant=False, context_fn=contexts) for part in parts])
