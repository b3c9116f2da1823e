"""Class ids that index a table of per-class parameters."""

from torch import Tensor


def check_class_range(labels: Tensor, num_classes: int, owner: str) -> None:
    """Refuse class ids without a row of their own, before they end in an index error on some device.

    Args:
        labels: ``(R,)`` class ids.
        num_classes: rows of the table; valid ids are ``0 .. num_classes - 1``.
        owner: name of the part that holds the table, for the message.

    Raises:
        ValueError: if a label is out of range.
    """
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if len(outside):
        raise ValueError(
            f'{owner} has num_classes={num_classes}, so labels must lie in 0..{num_classes - 1}, got {int(outside[0])}'
        )
