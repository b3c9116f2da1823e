"""MMEngine's ``activation_checkpointing`` for parts whose inputs need no gradient, as images do not."""

from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType
from typing import Any


def compute_parts_again(module: ModuleType) -> None:
    """Mend ``mmengine.runner.activation_checkpointing``, right after its import.

    MMEngine takes torch's checkpointing in the form that gives no gradient where the inputs need none, so that a
    backbone would not train.
    """
    module.wrap_forward = _wrap_forward


def _wrap_forward(forward: Callable[..., Any]) -> Callable[..., Any]:
    from torch.utils.checkpoint import checkpoint

    from mmdml.utils.norm_statistics import statistics_kept

    def contexts() -> tuple[Any, Any]:
        # Of a part whose forward is no method of it nothing is known.
        part = getattr(forward, '__self__', None)
        return nullcontext(), nullcontext() if part is None else statistics_kept(part)

    return lambda *inputs, **options: checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts, **options)
