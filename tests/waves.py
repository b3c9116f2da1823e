"""Weights by formula: the same in every process and every version of torch, so that outputs can be noted down."""

import math

import torch


def wave_weights(shapes: dict) -> dict:
    """A state dictionary for tensors of these names and shapes: noise by fan-in, norms and biases near their neutral.

    Args:
        shapes: shape by name, of whatever order.
    """
    weights = {}
    for number, (name, shape) in enumerate(sorted(shapes.items())):
        noise = torch.arange(math.prod(shape), dtype=torch.float64).mul(12.9898).add(78.233 * number).sin() * 43758.5453
        noise = (noise - noise.floor()).reshape(shape).float()  # uniform in [0, 1)
        if name.endswith('num_batches_tracked'):
            weights[name] = torch.zeros(shape, dtype=torch.int64)
        elif len(shape) > 1:
            weights[name] = (noise - 0.5) * math.sqrt(24 / math.prod(shape[1:]))
        elif name.endswith(('weight', 'running_var')):
            weights[name] = noise + 0.5
        else:
            weights[name] = (noise - 0.5) * 0.2
    return weights


def wave_picture(size: int) -> torch.Tensor:
    """``(1, 3, size, size)`` by the same formula, deviation 1."""
    return wave_weights({'picture': (3, size, size)})['picture'][None] * size / math.sqrt(2)


def shapes_of(network: torch.nn.Module) -> dict:
    """Shape by name of all that a network saves."""
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}
