"""A frozen backbone with a few trained weights: low-rank updates, prompts."""

from .base import AdaptedBackbone
from .lora import LoRABackbone, LowRankLinear
from .visual_prompts import PromptedBackbone

__all__ = ['AdaptedBackbone', 'LoRABackbone', 'LowRankLinear', 'PromptedBackbone']
