"""The embeddings that training computed anyway, kept by dataset index."""

import torch
from torch import Tensor

from mmdml.structures import Rows


class EmbeddingBank:
    """Latest raw embedding of every training image: statistics without an extra forward pass.

    Rows are as old as the image's last turn, at most about an epoch. At the size of Stanford Online Products
    (59,551 x 512) it takes 122 MB.

    Args:
        size: images N of the training set.
        dim: embedding width D.
        device: where to keep it.
    """

    def __init__(self, size: int, dim: int, device: torch.device) -> None:
        # The last row takes what shows no image of the dataset: leaving it out would wait for the accelerator.
        self._rows = torch.zeros(size + 1, dim, device=device)
        self._filled = torch.zeros(size + 1, dtype=torch.bool, device=device)
        self._winner = torch.full((size + 1,), -1, dtype=torch.int64, device=device)

    @property
    def rows(self) -> Tensor:
        """``(N, D)`` latest raw embeddings, zero where none is known."""
        return self._rows[:-1]

    @property
    def filled(self) -> Tensor:
        """``(N,)`` bool: rows that are known."""
        return self._filled[:-1]

    def update(self, rows: Rows) -> None:
        """Write a batch.

        Of an image that occurs twice, the later row stays; rows of index -1, which show no image of the dataset, are
        skipped.
        """
        indices = torch.where(rows.indices < 0, len(self._rows) - 1, rows.indices)
        order = torch.arange(len(indices), device=indices.device)
        # Writing one index twice has no defined order in torch: let both writes carry the same row.
        self._winner[indices] = -1
        self._winner.scatter_reduce_(0, indices, order, 'amax')
        self._rows[indices] = rows.embeddings.detach().float()[self._winner[indices]]
        self._filled[indices] = True

    def state_dict(self) -> dict[str, Tensor]:
        """Rows and which of them are filled."""
        return {'rows': self.rows.clone(), 'filled': self.filled.clone()}

    @classmethod
    def from_state(cls, state: dict[str, Tensor], device: torch.device) -> 'EmbeddingBank':
        """Restore a bank as it was saved."""
        bank = cls(*state['rows'].shape, device=device)
        bank.rows.copy_(state['rows'])
        bank.filled.copy_(state['filled'])
        return bank
