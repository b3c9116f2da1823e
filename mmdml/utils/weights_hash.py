"""A name for the weights of a model: the same weights, the same hash."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def weights_hash(weights: nn.Module | Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values of all parameters and buffers, in hexadecimal.

    It does not depend on the order of entries, the device, or the file that they came from.

    Args:
        weights: a module, or its state dict.
    """
    entries = weights.state_dict() if isinstance(weights, nn.Module) else weights
    digest = hashlib.sha256()
    for name, value in sorted(entries.items()):
        if not isinstance(value, Tensor):
            continue
        value = value.detach().cpu().contiguous()
        digest.update(f'{name}\0{value.dtype}\0{tuple(value.shape)}\0'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
