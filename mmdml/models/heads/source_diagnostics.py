"""What the sources of candidates contribute to a loss."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmdml.structures import PairBatch, Rows


def source_diagnostics(
    loss: Tensor, pairs: PairBatch, added: Mapping[str, Rows], sources: Mapping[str, nn.Module]
) -> dict[str, Tensor]:
    """Return what each source contributed: number of rows, share of the gradient, likeness to its parents.

    The share is that of the source's rows in the summed norms of the loss's gradients with respect to the unit
    candidates, in [0, 1]: 0 if the loss would be the same without the source.

    Args:
        loss: of the pairs, with its graph, which stays.
        pairs: whose candidates are the anchors and then the rows of each source, in the order of ``sources``.
        added: candidates by source, of those that added any.
        sources: parts by name; one may report more by ``diagnostics()``.

    Returns:
        ``{source}_candidates``, ``{source}_gradient_share``, ``{source}_cosine`` to the parents, and what the source
        itself reports; a source without rows has the first and the last.
    """
    log = {}
    norms = torch.cat(_gradient_norms(loss, pairs.candidates.parts))
    total = norms.sum()
    start = len(pairs.anchors)
    for name, source in sources.items():
        rows = added.get(name)
        number = 0 if rows is None else len(rows)
        log[f'{name}_candidates'] = torch.tensor(float(number))
        if number:
            part = slice(start, start + number)
            start += number
            log[f'{name}_gradient_share'] = norms[part].sum() / total.masked_fill(total == 0, 1)
            # View ids count the anchors, so they lead back to a synthetic row's first parent.
            parent = rows.views[:, 0]
            if (parent >= 0).all():
                both = pairs.candidates.embeddings[part].detach(), pairs.anchors.embeddings[parent].detach()
                log[f'{name}_cosine'] = F.cosine_similarity(*both, dim=1).mean()
        if hasattr(source, 'diagnostics'):
            log.update({f'{name}_{key}': torch.as_tensor(value) for key, value in source.diagnostics().items()})
    return log


def _gradient_norms(loss: Tensor, parts: Sequence[Tensor]) -> list[Tensor]:
    """``(R,)`` norms of the gradient of a loss with respect to rows ``(R, D)``; 0 where the graph does not lead."""
    if not (loss.requires_grad and all(part.requires_grad for part in parts)):
        return [part.new_zeros(len(part)) for part in parts]
    gradients = torch.autograd.grad(loss, parts, retain_graph=True, allow_unused=True, materialize_grads=True)
    return [gradient.norm(dim=1) for gradient in gradients]
