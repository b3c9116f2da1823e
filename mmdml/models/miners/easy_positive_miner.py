"""Easy positive mining."""

from mmdml.registry import TASK_UTILS

from .easy_hard_miner import EasyHardMiner

NEGATIVES = ('semi-hard', 'hard')


@TASK_UTILS.register_module()
class EasyPositiveMiner(EasyHardMiner):
    """For every anchor the nearest positive, and the nearest negative, of all or of those beyond the positive.

    Xuan et al., WACV 2020: an image need not be near to all of its class, only to some of it. It is
    :class:`EasyHardMiner` by the name of the paper: anchors without a positive or without such a negative give no
    triplet.

    Args:
        negatives: 'semi-hard', the nearest negative that is farther than the positive, or 'hard', the nearest.

    Raises:
        ValueError: if ``negatives`` is unknown.

    Config::

        miner=dict(type='EasyPositiveMiner', negatives='semi-hard')
    """

    def __init__(self, negatives: str = 'semi-hard') -> None:
        if negatives not in NEGATIVES:
            raise ValueError(f'negatives must be one of {NEGATIVES}, got {negatives!r}')
        super().__init__('easy', negatives)
