"""IAA: intra-class adaptive augmentation with neighbor correction (T-MM 2022, DOI 10.1109/TMM.2022.3227414)."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mmdml.models.generators.base import Generator
from mmdml.registry import MODELS
from mmdml.structures import ActiveLearner, PairRules, Progress, Rows, StepContext
from mmdml.utils.numbers import is_number, is_whole
from mmdml.utils.seeding import Stream, torch_generator

from .checks import check
from .estimator import _SOURCES, IAAEstimator
from .full_covariance import full_covariance_noise
from .schedule import Schedule


def _released_schedule(share: float) -> float:
    """Lower lambda after 40, 60 and 80 % of the epochs, as the released code does."""
    steps = ((0.4, 1.0), (0.6, 0.9), (0.8, 0.75))
    return next((factor for end, factor in steps if share <= end), 0.6)


#: lambda_t / lambda as a function of epoch / epochs, the epoch counted from 1.
LAM_SCHEDULES: dict[str, Callable[[float], float]] = {'released': _released_schedule, 'constant': lambda share: 1.0}

#: Exponent of copy m = 1, 2, ... on the standard deviation. 'released': the square root is taken anew for every copy.
COPY_EXPONENTS: dict[str, Callable[[int], float]] = {'paper': lambda m: 1.0, 'released': lambda m: 0.5 ** (m - 1)}

_NOISES = ('diagonal', 'full', 'identity')
_CENTERS = ('sample', 'mean')


@MODELS.register_module()
class IAAGenerator(Generator):
    """Synthetic candidates around every real embedding, spread as its own class is (Eq. 17).

    ``zhat_i^m = z_i + sqrt(lambda_t) sqrt(Sigma_cr[y_i]) * eps``, ``eps ~ N(0, I_D)``, ``m = 1..M``, where ``Sigma_cr``
    is the class's diagonal covariance (Eq. 7-8), corrected by its neighbors (Eq. 11-16). Gradient flows through
    ``z_i``; the covariance is constant and estimated anew every ``update_interval`` from a sweep of the training set or
    from the bank. Copies inherit the view of their source: they are no positives of it.

    Defaults follow the paper where the released code differs from it; ``copy_exponent='released'``,
    ``correction=False`` and ``momentum=0.2`` bring the released code back. The ablations of the paper are options, too:
    see configs/iaa/README.md.

    Args:
        num_copies: M >= 1.
        lam: variance multiplier lambda >= 0.
        lam_schedule: 'released' (x1, 0.9, 0.75, 0.6 after 40, 60, 80 % of the epochs) or 'constant'.
        onset: training before the first estimate, in epochs (int) or as a fraction of the run (float in [0, 1]).
        warmup: further training with estimates but without copies, same units.
        update_interval: between two estimates, same units, > 0.
        source: 'sweep' (a pass over the training set, the paper) or 'bank' (no extra pass, rows up to an epoch old;
            the onset is then at least one epoch, in which the bank fills).
        transform: of the sweep: 'train', 'test', or None: 'train' unless another subscriber needs 'test'.
        noise: 'diagonal' (the paper's experiments), 'full', exact class covariances drawn from the bank without
            forming them (needs ``source='bank'``), or 'identity', the same noise for all (Table IX).
        center: 'sample', or 'mean' (Table XII): copies lie around the mean of the class, without a gradient.
        images_per_class: random images of each class that enter an estimate (Table XI). Default: all.
        correction: True, False for the uncorrected variance, or arguments of :func:`correct_variance` by name.
        momentum: weight of the old statistics in an update (released code: 0.2). Default: estimate afresh.
        copy_exponent: 'paper', or 'released': copy m has the standard deviation ``sqrt(lambda) Sigma^(1/2^m)``.
        own_copies: 'exclude', or 'positive': a copy is a positive of its own source.

    Raises:
        ValueError: for values out of range; for a setting that another one leaves without effect; when the head is
            built, for ``own_copies='positive'`` beside its ``exclude_same_image``, which excludes them.

    Config::

        sources=dict(iaa=dict(type='IAAGenerator', num_copies=3, lam=0.8, onset=30))
    """

    def __init__(
        self,
        num_copies: int = 3,
        lam: float = 0.8,
        lam_schedule: str = 'released',
        onset: int | float = 30,
        warmup: int | float = 0,
        update_interval: int | float = 2,
        source: str = 'sweep',
        transform: str | None = None,
        noise: str = 'diagonal',
        center: str = 'sample',
        images_per_class: int | None = None,
        correction: bool | dict[str, Any] = True,
        momentum: float | None = None,
        copy_exponent: str = 'paper',
        own_copies: str = 'exclude',
    ) -> None:
        super().__init__()
        check('num_copies', num_copies, is_whole(num_copies) and num_copies >= 1, 'an integer >= 1')
        check('lam', lam, is_number(lam) and lam >= 0, '>= 0')
        choices = (
            ('lam_schedule', lam_schedule, LAM_SCHEDULES),
            ('source', source, _SOURCES),
            ('noise', noise, _NOISES),
            ('center', center, _CENTERS),
            ('copy_exponent', copy_exponent, COPY_EXPONENTS),
            ('own_copies', own_copies, ('exclude', 'positive')),
        )
        for name, value, known in choices:
            check(name, value, value in known, f'one of {list(known)}')
        if noise == 'full' and source != 'bank':
            raise ValueError("noise='full' draws from the bank: set source='bank'")
        if noise == 'full' and (momentum is not None or copy_exponent != 'paper'):
            raise ValueError("noise='full' has neither momentum nor copy_exponent: both act on stored diagonals")
        if source == 'bank' and transform is not None:
            raise ValueError("transform is that of the sweep, and source='bank' makes none: remove one of the two")
        # The means of classes, around which copies may lie, depend on how they are estimated.
        estimated = center == 'sample' and (momentum is not None or images_per_class is not None)
        if noise == 'identity' and (estimated or copy_exponent != 'paper' or isinstance(correction, Mapping)):
            raise ValueError(
                "noise='identity' is the same for all classes: copy_exponent and settings of the correction have no "
                "effect on it, nor have momentum and images_per_class with center='sample'"
            )
        self.num_copies = num_copies
        self.lam = lam
        self.lam_schedule = lam_schedule
        self.noise = noise
        self.center = center
        self.copy_exponent = copy_exponent
        self.own_copies = own_copies
        self.schedule = Schedule(onset, warmup, update_interval, source == 'bank')
        check('correction', correction, correction is not None, 'True, False or settings by name')
        settings = {} if correction is True else correction
        self.estimator = IAAEstimator(
            self.schedule,
            transform,
            noise == 'full',
            None if settings is False else settings,
            momentum,
            images_per_class,
        )

    def set_pair_rules(self, rules: PairRules) -> None:
        """Refuse rules of the head by which a copy cannot be a positive of its source."""
        if self.own_copies == 'positive' and rules.exclude_same_image:
            raise ValueError(
                "own_copies='positive' and head.exclude_same_image=True contradict each other: a copy has the dataset "
                'index of its source. Remove one of the two'
            )

    def active(self, progress: Progress) -> bool:
        """Whether copies are made at this iteration."""
        return self.estimator.ready and progress.iter >= self.schedule.first_copies(progress)

    def lam_at(self, progress: Progress) -> float:
        """lambda_t, constant within an epoch."""
        return self.lam * LAM_SCHEDULES[self.lam_schedule]((progress.epoch + 1) / progress.max_epochs)

    def forward(self, anchors: Rows, step: StepContext) -> Rows | None:
        """``R`` real rows -> ``M * R`` copies, copy-major; None while IAA is not active.

        Args:
            anchors: real rows.
            step: position of the run, and the active learner (D&C). The variance is then corrected in its own space,
                ``scale * z``; neurons of factor 0 get no noise. Full-covariance noise keeps the correction in the whole
                space.

        Raises:
            RuntimeError: if the estimator received no embeddings although its onset has passed.
        """
        progress = step.progress
        if not self.active(progress):
            self._refuse_silence(progress)
            return None
        raw = anchors.embeddings if anchors.embeddings.dtype.itemsize >= 4 else anchors.embeddings.float()
        self.estimator.move_to(raw.device)
        with torch.no_grad():
            noise = self._draw(anchors.labels, raw, progress, step.learner)
        center = raw if self.center == 'sample' else self._means(raw, anchors.labels)
        copies = (center[None] + self.lam_at(progress) ** 0.5 * noise).flatten(0, 1)
        views = anchors.views.repeat(self.num_copies, 1)
        return Rows(
            copies,
            anchors.labels.repeat(self.num_copies),
            views if self.own_copies == 'exclude' else torch.full_like(views, -1),
            anchors.indices.repeat(self.num_copies),
        )

    def _means(self, raw: Tensor, labels: Tensor) -> Tensor:
        """``(R, D)`` means of the classes; of a class without images in the estimate, the row itself."""
        statistics = self.estimator.statistics
        known = statistics['count'][labels] > 0
        return torch.where(known[:, None], statistics['mean'].to(raw)[labels], raw.detach())

    def _refuse_silence(self, progress: Progress) -> None:
        """Refuse to go on without estimates after the onset: the run would train without IAA."""
        if not self.estimator.received and progress.iter >= self.schedule.first_estimate(progress):
            raise RuntimeError(
                'IAAGenerator got no embeddings although its onset has passed: default_hooks needs '
                "dict(type='SweepHook'), see configs/_base_/default_runtime.py"
            )

    def _draw(self, labels: Tensor, raw: Tensor, progress: Progress, learner: ActiveLearner | None) -> Tensor:
        """``(M, R, D)`` noise of covariance ``Sigma_cr[y]``, a pure function of seed, iteration and global row."""
        seed, step, rank = progress.seed, progress.iter, progress.rank
        if self.noise == 'full':
            random = torch_generator(Stream.IAA_FULL_NOISE, seed, step, rank, device=raw.device)
            return full_covariance_noise(labels, self.num_copies, self.estimator.covariances, generator=random)
        random = torch_generator(Stream.IAA_NOISE, seed, step, device=raw.device)
        rows, dim = raw.shape
        # Drawn for the global batch and cut, so that ranks differ and N ranks together equal one process.
        shape = (self.num_copies, progress.world_size * rows, dim)
        noise = torch.randn(shape, generator=random, device=raw.device)
        noise = noise[:, rank * rows : (rank + 1) * rows]
        std = self.estimator.std_of(learner)[labels]
        if self.noise == 'identity':
            std = torch.ones_like(std) if learner is None else (learner.scale > 0).to(std).expand_as(std)
        exponent = COPY_EXPONENTS[self.copy_exponent]
        return torch.stack([noise[m] * std ** exponent(m + 1) for m in range(self.num_copies)])

    def diagnostics(self) -> dict[str, float]:
        """See :meth:`IAAEstimator.diagnostics`."""
        return self.estimator.diagnostics()
