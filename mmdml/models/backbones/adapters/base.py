"""What parameter-efficient ways to train a backbone have in common."""

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdml.registry import MODELS

_CHECKSUMS = 'frozen_checksums'


class AdaptedBackbone(BaseModule):
    """Base of backbones whose own weights are frozen, while weights added to them train.

    The state dict holds the added weights alone, so that a checkpoint of ViT-B with LoRA has some MB. The frozen
    weights are those that ``init_weights`` of the backbone loads. Their checksums are in the state dict, and added
    weights that were trained beside other frozen ones are refused. A state dict with all weights loads, too.

    Args:
        backbone: config of the backbone to adapt.
        init_cfg: MMEngine's initialization config.

    Raises:
        ValueError: if the backbone has adapters already, which would be frozen; while loading, if the added weights
            belong to other frozen ones.
    """

    def __init__(self, backbone: dict[str, Any], init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(init_cfg)
        self.network = MODELS.build(backbone)
        if any(isinstance(part, AdaptedBackbone) for part in self.network.modules()):
            raise ValueError(f'{type(self).__name__} would freeze the adapters of {backbone["type"]}: use one of both')
        self.network.requires_grad_(False)
        self._frozen = tuple(sorted(self.network.state_dict()))
        # A file of the bare backbone, loaded into the network alone or what it wraps, lacks the added weights.
        for module in (self.network, *self.network.children()):
            module.register_load_state_dict_post_hook(_Forgive(module))
        self.register_state_dict_post_hook(_leave_frozen_out)
        self.register_load_state_dict_pre_hook(_put_frozen_in)

    def forward(self, inputs: Tensor) -> Any:
        """Return what the backbone returns."""
        return self.network(inputs)

    def train(self, mode: bool = True) -> 'AdaptedBackbone':
        """Switch the mode; batch norms of the frozen network keep their statistics."""
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def plain_weights(self) -> dict[str, Tensor]:
        """Weights of the bare backbone that computes the same.

        Raises:
            ValueError: if there is none.
        """
        raise ValueError(f'{type(self).__name__} computes what no bare backbone does: its weights cannot be merged')

    def all_weights(self) -> dict[str, Tensor]:
        """Return added and frozen weights, by their names in this module."""
        added = {name: value for name, value in self.state_dict().items() if name != _CHECKSUMS}
        return added | {f'network.{name}': value for name, value in self._frozen_weights().items()}

    def _frozen_weights(self) -> dict[str, Tensor]:
        own = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        return {name: own[name].detach() for name in self._frozen}

    def _checksums(self) -> Tensor:
        """``(N, 2)`` sum and norm of each frozen weight."""
        sums = [torch.stack([each.double().sum(), each.double().norm()]) for each in self._frozen_weights().values()]
        return torch.stack(sums).float()

    def _fits(self, saved: Tensor) -> bool:
        own = self._checksums()
        # Position embeddings that were resized at loading differ by rounding between machines.
        return saved.shape == own.shape and torch.allclose(saved.to(own), own, rtol=1e-3, atol=1e-3)


class _Forgive:
    """A hook that takes weights which were added to a module off the list of those missing in a file for it."""

    def __init__(self, module: nn.Module) -> None:
        self.frozen = frozenset(module.state_dict())

    def __call__(self, module: nn.Module, found: Any) -> None:
        added = {name for name, _ in module.named_parameters()} - self.frozen
        found.missing_keys[:] = [key for key in found.missing_keys if key not in added]


def _leave_frozen_out(module: AdaptedBackbone, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
    for name in module._frozen:
        state.pop(f'{prefix}network.{name}', None)
    state[f'{prefix}{_CHECKSUMS}'] = module._checksums()


def _put_frozen_in(module: AdaptedBackbone, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
    """Complete a state dict of added weights by the frozen ones that the network has."""
    saved = state.pop(f'{prefix}{_CHECKSUMS}', None)
    if saved is None or any(f'{prefix}network.{name}' in state for name in module._frozen):
        return
    if not module._fits(saved) and not module.network.is_init:
        module.network.init_weights()
    if not module._fits(saved):
        raise ValueError(
            f'the weights that {type(module).__name__} added were trained beside other frozen weights than those of '
            'this backbone: its init_cfg must load the ones of the training'
        )
    state.update({f'{prefix}network.{name}': value for name, value in module._frozen_weights().items()})
