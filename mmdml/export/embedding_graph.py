"""What is exported: pictures as bytes in, unit vectors out."""

import torch
from torch import Tensor, nn

from mmdml.models import ImageEmbedder


class EmbeddingGraph(nn.Module):
    """An embedder with its normalization of pixels before it, and unit length after it.

    Divided embeddings (D&C) are merged as the embedder predicts them, and mirror images averaged where it does.

    Args:
        model: the embedder, which is put into evaluation mode.

    Raises:
        ValueError: its data preprocessor pads, which depends on the batch.
    """

    def __init__(self, model: ImageEmbedder) -> None:
        super().__init__()
        self.model = model.eval()
        preprocessor = model.data_preprocessor
        if getattr(preprocessor, 'pad_size_divisor', 1) > 1:
            raise ValueError('data_preprocessor.pad_size_divisor > 1 cannot be exported; let the pipeline pad')
        #: Whether the model takes red first.
        self.to_rgb = getattr(preprocessor, 'to_rgb', False)
        for name, default in (('mean', 0.0), ('std', 1.0)):
            value = getattr(preprocessor, name, None)
            self.register_buffer(name, torch.full((1, 1, 1), default) if value is None else value.detach().clone())

    def forward(self, images: Tensor) -> Tensor:
        """``(B, H, W, C)`` uint8, colors in the order red, green, blue -> unit embeddings ``(B, D)`` float32."""
        inputs = images.permute(0, 3, 1, 2)
        if not self.to_rgb and inputs.shape[1] == 3:
            inputs = inputs.flip(1)
        return self.model.embed((inputs.float() - self.mean) / self.std).float()
