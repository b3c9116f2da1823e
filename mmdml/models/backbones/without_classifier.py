"""What backbones that read public weight files as they are have in common."""

from typing import Any

from mmengine.model import BaseModule
from torch import Tensor


class WithoutClassifier(BaseModule):
    """Base of backbones whose public weights come with an ImageNet classifier, which is left out while loading.

    What loading reports as missing or unexpected is then truly missing or unexpected, and a strict load of the public
    file passes.
    """

    #: Layers of the public network that the backbone lacks.
    classifier: tuple[str, ...] = ()

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        left_out = tuple(f'{prefix}{name}.' for name in self.classifier)
        for key in [key for key in state_dict if key.startswith(left_out)]:
            del state_dict[key]  # of the loader's own copy
        super()._load_from_state_dict(state_dict, prefix, *args)
