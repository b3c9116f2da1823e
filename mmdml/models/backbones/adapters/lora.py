"""Low-rank updates of frozen linear layers."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmdml.registry import MODELS
from mmdml.structures.checks import check_numbers, check_positive
from mmdml.utils.numbers import check_counts

from .base import AdaptedBackbone


class LowRankLinear(nn.Linear):
    """A linear layer whose weight W is ``W + alpha / rank * up @ down``; W and the bias keep their names.

    Args:
        linear: the layer; it shares its weight and bias.
        rank: r, rows of ``down (r, in)`` and columns of ``up (out, r)``.
        alpha: scale of the update.
        dropout: probability, applied to the input of ``down``.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, dropout: float = 0.0) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.down = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        """``(..., in)`` -> ``(..., out)``."""
        return super().forward(inputs) + self.scale * F.linear(F.linear(self.dropout(inputs), self.down), self.up)

    @torch.no_grad()
    def merged(self) -> Tensor:
        """``(out, in)`` weight of the plain linear layer that computes the same."""
        return self.weight + self.scale * self.up @ self.down


@MODELS.register_module()
class LoRABackbone(AdaptedBackbone):
    r"""LoRA: a frozen backbone whose linear layers learn an update of low rank.

    Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, ICLR 2022, equation 3:
    :math:`h = W_0 x + \frac{\alpha}{r} B A x`, with B zero at first. For any backbone with ``nn.Linear`` layers, of
    mmpretrain, timm or one's own. ``tools/model_converters/merge_adapters.py`` makes plain weights of it.

    Args:
        backbone: config of the backbone.
        rank: r >= 1.
        alpha: > 0.
        dropout: in [0, 1), of the inputs of A.
        targets: ends of the names of the layers; attention is ``qkv`` and ``proj`` in both packages, the multilayer
            perceptron ``fc1`` and ``fc2`` in timm.
        init_cfg: MMEngine's initialization config.

    Raises:
        ValueError: for a value out of range; if no linear layer has such a name; in the first forward pass, if a layer
            is never called, as by transformers that read its weight themselves.

    Config::

        backbone=dict(
            type='LoRABackbone',
            rank=8,
            alpha=16,
            backbone=dict(type='TimmModel', model_name='vit_small_patch16_224.dino'))
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        targets: Sequence[str] = ('qkv', 'proj'),
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, init_cfg)
        check_counts(rank=rank)
        check_positive(alpha=alpha)
        check_numbers(dropout=dropout)
        if not 0 <= dropout < 1:
            raise ValueError(f'dropout must be in [0, 1), got {dropout}')
        linear = {name: layer for name, layer in self.network.named_modules() if isinstance(layer, nn.Linear)}
        chosen = {name: layer for name, layer in linear.items() if name.rpartition('.')[2] in targets}
        if not chosen:
            ends = sorted({name.rpartition('.')[2] for name in linear})
            raise ValueError(f'targets={list(targets)} names no linear layer of {backbone["type"]}; it has {ends}')
        for name, layer in chosen.items():
            parent, _, own = name.rpartition('.')
            setattr(self.network.get_submodule(parent), own, LowRankLinear(layer, rank, alpha, dropout))
        self._checked = False

    def forward(self, inputs: Tensor) -> Any:
        if self._checked:
            return super().forward(inputs)
        layers = {name: layer for name, layer in self.network.named_modules() if isinstance(layer, LowRankLinear)}
        unused = set(layers.values())
        hooks = [layer.register_forward_hook(lambda layer, *_: unused.discard(layer)) for layer in unused.copy()]
        found = super().forward(inputs)
        for hook in hooks:
            hook.remove()
        if unused:
            names = [name for name, layer in layers.items() if layer in unused]
            raise ValueError(f'the backbone does not call {names[0]} ({len(names)} such layers): choose other targets')
        self._checked = True
        return found

    def plain_weights(self) -> dict[str, Tensor]:
        """Weights of the bare backbone that computes the same."""
        weights = self._frozen_weights()
        for name, layer in self.network.named_modules():
            if isinstance(layer, LowRankLinear):
                weights[f'{name}.weight'] = layer.merged()
        return weights
