"""Learned tokens beside those of the image."""

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn

from mmdml.registry import MODELS
from mmdml.utils.numbers import check_counts

from .base import AdaptedBackbone


@MODELS.register_module()
class PromptedBackbone(AdaptedBackbone):
    """Visual prompt tuning (VPT): a frozen vision transformer with learned tokens in its sequence.

    Jia et al., *Visual Prompt Tuning*, ECCV 2022, equations 4 and 5 (shallow) and 6 and 7 (deep). The prompts stand
    behind the other tokens, where attention takes them as it would anywhere else, and are cut off behind the last
    block. For the plain transformers of timm and mmpretrain; not for those with windows or rotary positions.

    Args:
        backbone: config of the backbone.
        num_prompts: prompts of a block, >= 1.
        deep: each block has prompts of its own, in place of what the block before made of its prompts.
        init_cfg: MMEngine's initialization config.

    Raises:
        ValueError: without a prompt, for a backbone without a list of blocks, or one whose blocks take no sequence.

    Config::

        backbone=dict(
            type='PromptedBackbone',
            num_prompts=8,
            backbone=dict(type='TimmModel', model_name='vit_small_patch16_224.dino'))
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        num_prompts: int = 8,
        deep: bool = True,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, init_cfg)
        check_counts(num_prompts=num_prompts)
        transformer = getattr(self.network, 'timm_model', self.network)
        blocks = getattr(transformer, 'blocks', None) or getattr(transformer, 'layers', None)
        width = getattr(transformer, 'embed_dim', None) or getattr(transformer, 'embed_dims', None)
        if blocks is None or width is None:
            raise ValueError(f'{type(transformer).__name__} has no blocks and width of a plain vision transformer')
        self.num_prompts = num_prompts
        self.prompts = nn.Parameter(torch.empty(len(blocks) if deep else 1, num_prompts, width))
        # Xavier uniform over the fan-in of a patch, 3 x 16 x 16, and the width, as in the paper's code.
        bound = math.sqrt(6 / (3 * 16 * 16 + width))
        nn.init.uniform_(self.prompts, -bound, bound)
        # Hooks, not subclasses: timm's and mmpretrain's blocks stay what they are. Bound methods, so that a copy of the
        # model inserts its own prompts.
        for at, block in enumerate(blocks):
            if at == 0 or deep:
                block.register_forward_pre_hook(functools.partial(self._insert, at))
        blocks[-1].register_forward_hook(self._cut_off)

    def _insert(self, at: int, block: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        tokens, *rest = args
        if tokens.ndim != 3:
            raise ValueError(f'prompts join tokens (B, L, C), but the blocks take shape {tuple(tokens.shape)}')
        kept = tokens if at == 0 else tokens[:, : -self.num_prompts]
        # Not len(tokens), which would fix the size of the batch in a program that torch.export traces.
        prompts = self.prompts[at].to(tokens).expand(tokens.shape[0], -1, -1)
        return torch.cat([kept, prompts], dim=1), *rest

    def _cut_off(self, block: nn.Module, args: tuple[Tensor, ...], tokens: Tensor) -> Tensor:
        return tokens[:, : -self.num_prompts]
