"""IAA: intra-class adaptive augmentation with neighbor correction (T-MM 2022, DOI 10.1109/TMM.2022.3227414)."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import ActiveLearner, Embeddings, Progress, Rows, StepContext
from mmdml.utils.seeding import Stream, torch_generator

from .class_statistics import ClassStatistics, class_statistics, update_statistics
from .full_covariance import CovarianceBank, full_covariance_noise
from .neighbor_correction import correct_variance, correction_weight


def _released_schedule(share: float) -> float:
    """The released code lowers lambda after 40, 60 and 80 % of the epochs."""
    steps = ((0.4, 1.0), (0.6, 0.9), (0.8, 0.75))
    return next((factor for end, factor in steps if share <= end), 0.6)


#: lambda_t / lambda as a function of epoch / epochs, the epoch counted from 1.
LAM_SCHEDULES: dict[str, Callable[[float], float]] = {'released': _released_schedule, 'constant': lambda share: 1.0}

#: Exponent of copy m = 1, 2, ... on the standard deviation. 'released': the square root is taken anew for every copy.
COPY_EXPONENTS: dict[str, Callable[[int], float]] = {'paper': lambda m: 1.0, 'released': lambda m: 0.5 ** (m - 1)}

_NOISES = ('diagonal', 'full')
_SOURCES = ('sweep', 'bank')


@MODELS.register_module()
class IAAGenerator(BaseModule):
    """Synthetic candidates around every real embedding, spread as its own class is (Eq. 17).

    ``zhat_i^m = z_i + sqrt(lambda_t) sqrt(Sigma_cr[y_i]) * eps``, ``eps ~ N(0, I_D)``, ``m = 1..M``, where ``Sigma_cr``
    is the class's diagonal covariance (Eq. 7-8), corrected by its neighbours (Eq. 11-16). Gradient flows through
    ``z_i``; the covariance is constant and estimated anew every ``update_interval`` from a sweep of the training set or
    from the bank. Copies inherit the view of their source: they are no positives of it.

    Defaults follow the paper where the released code differs from it; ``copy_exponent='released'``,
    ``correction=False`` and ``momentum=0.2`` bring the released code back.

    Args:
        num_copies: M >= 1.
        lam: variance multiplier lambda >= 0.
        lam_schedule: 'released' (x1, 0.9, 0.75, 0.6 after 40, 60, 80 % of the epochs) or 'constant'.
        onset: training before the first estimate, in epochs (int) or as a fraction of the run (float in [0, 1]).
        warmup: further training with estimates but without copies, same units.
        update_interval: between two estimates, same units, > 0.
        source: 'sweep' (a pass over the training set, the paper) or 'bank' (no extra pass, rows up to an epoch old;
            the onset is then at least one epoch, in which the bank fills).
        transform: of the sweep: 'train', 'test', or None: 'train' unless another subscriber asks for 'test'.
        noise: 'diagonal' (the paper's experiments) or 'full', exact class covariances drawn from the bank without
            forming them (needs ``source='bank'``).
        correction: True, False for the uncorrected variance, or arguments of :func:`correct_variance` by name.
        momentum: weight of the old statistics in an update (released code: 0.2). Default: estimate afresh.
        copy_exponent: 'paper', or 'released': copy m has the standard deviation ``sqrt(lambda) Sigma^(1/2^m)``.
        own_copies: 'exclude', or 'positive': a copy is a positive of its own source.

    Raises:
        ValueError: for values out of range.

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
        correction: bool | dict[str, Any] = True,
        momentum: float | None = None,
        copy_exponent: str = 'paper',
        own_copies: str = 'exclude',
    ) -> None:
        super().__init__()
        _check('num_copies', num_copies, isinstance(num_copies, int) and num_copies >= 1, 'an integer >= 1')
        _check('lam', lam, lam >= 0, '>= 0')
        for name, span in (('onset', onset), ('warmup', warmup), ('update_interval', update_interval)):
            fits = span >= 0 and (isinstance(span, int) or span <= 1)
            _check(name, span, fits, 'epochs (an integer >= 0) or a fraction of the run (a float in [0, 1])')
        _check('update_interval', update_interval, update_interval > 0, '> 0')
        choices = (
            ('lam_schedule', lam_schedule, LAM_SCHEDULES),
            ('source', source, _SOURCES),
            ('transform', transform, (None, 'train', 'test')),
            ('noise', noise, _NOISES),
            ('copy_exponent', copy_exponent, COPY_EXPONENTS),
            ('own_copies', own_copies, ('exclude', 'positive')),
        )
        for name, value, known in choices:
            _check(name, value, value in known, f'one of {list(known)}')
        if noise == 'full' and source != 'bank':
            raise ValueError("noise='full' draws from the bank: set source='bank'")
        if noise == 'full' and (momentum is not None or copy_exponent != 'paper'):
            raise ValueError("noise='full' has neither momentum nor copy_exponent: both act on stored diagonals")
        self.num_copies = num_copies
        self.lam = lam
        self.lam_schedule = lam_schedule
        self.onset = onset
        self.warmup = warmup
        self.update_interval = update_interval
        self.embedding_source = source
        self.sweep_transform = transform
        self.noise = noise
        self.correction: dict[str, Any] | None = None
        if correction is not False:
            self.correction = {} if correction is True else dict(correction)
        self.momentum = momentum
        self.copy_exponent = copy_exponent
        self.own_copies = own_copies
        # No buffers: on resume RunStateHook restores them, and they are not published with the weights.
        self._statistics: dict[str, Tensor] = {}
        self._std: Tensor | None = None
        self._std_by_learner: dict[str, Tensor] = {}
        self._scales: dict[str, Tensor] = {}
        self._covariances: CovarianceBank | None = None
        self._diagnostics: dict[str, float] = {}
        self._received = False

    # ------------------------------------------------------------------------------------------------ estimation

    def embeddings_due(self, progress: Progress) -> bool:
        """Estimates are due at the onset and every ``update_interval`` after it."""
        since = progress.iter - self._onset(progress)
        return since >= 0 and since % max(progress.iterations(self.update_interval), 1) == 0

    def _onset(self, progress: Progress) -> int:
        """First iteration with estimates. A bank is read after it had one epoch to fill, not before."""
        return max(progress.iterations(self.onset), progress.epoch_length if self.embedding_source == 'bank' else 0)

    def _begin(self, progress: Progress) -> int:
        """First iteration with copies."""
        return self._onset(progress) + progress.iterations(self.warmup)

    def check_schedule(self, progress: Progress) -> None:
        """Refuse a run that would end before IAA begins; ``onset=1.0`` says that this is meant.

        Raises:
            ValueError: naming the settings and the length of the run.
        """
        meant = isinstance(self.onset, float) and self.onset == 1
        if self._begin(progress) >= progress.max_iters and not meant:
            raise ValueError(
                f'IAA would never begin: onset={self.onset}, warmup={self.warmup} and source='
                f"'{self.embedding_source}' ask for {self._begin(progress)} iterations before it, but the run has "
                f'{progress.max_iters} ({progress.max_epochs} epochs). Lower onset, e.g. to a fraction of the run'
            )

    def receive_embeddings(self, embeddings: Embeddings, progress: Progress) -> None:
        """Estimate class statistics and correct the variances (Eq. 7-16)."""
        self._received = True
        fresh = class_statistics(embeddings.raw, embeddings.labels, embeddings.num_classes)
        if not bool((fresh.count >= 2).any()):
            print_log(
                f'IAA is off: none of the {embeddings.num_classes} classes has two images to estimate a variance from',
                logger='current',
                level=logging.WARNING,
            )
            self._forget()
            return
        seen = fresh.count
        if self._statistics:
            old = ClassStatistics(*(self._statistics[key] for key in ClassStatistics._fields))
            fresh = update_statistics(old, fresh, self.momentum, self._statistics['seen'])
            seen = self._statistics['seen'] + seen
        count, mean, var = fresh
        corrected = var if self.correction is None else correct_variance(count, mean, var, **self.correction)
        self._statistics = dict(count=count, mean=mean, var=var, corrected=corrected, seen=seen)
        self._scales = {}
        if self.noise == 'full':
            self._covariances = CovarianceBank.build(
                embeddings.raw, embeddings.labels, embeddings.num_classes, correction=self.correction
            )
        self._prepare()
        log = ', '.join(f'{key} {value:.3f}' for key, value in self._diagnostics.items())
        print_log(
            f'IAA statistics of {int(fresh.count.sum())} images in {int((fresh.count > 0).sum())} classes: {log}',
            logger='current',
        )

    def _prepare(self) -> None:
        """What follows from the statistics."""
        count, var, corrected = (self._statistics[key] for key in ('count', 'var', 'corrected'))
        self._std = corrected.sqrt()
        self._std_by_learner = {}
        known = count >= 2
        self._diagnostics = dict(trace_ratio=float(corrected[known].sum() / var[known].sum().clamp_min(1e-30)))
        if self.correction is not None:
            options = {key: self.correction[key] for key in ('beta', 'tau') if key in self.correction}
            alpha = correction_weight(count, **options)
            self._diagnostics.update(
                alpha_mean=float(alpha.mean()), alpha_min=float(alpha.min()), alpha_max=float(alpha.max())
            )

    def _forget(self) -> None:
        self._statistics, self._std, self._covariances, self._diagnostics = {}, None, None, {}

    # ------------------------------------------------------------------------------------------------ generation

    def active(self, progress: Progress) -> bool:
        """Whether copies are made at this iteration."""
        return self._std is not None and progress.iter >= self._begin(progress)

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
        """
        progress = step.progress
        if not self.active(progress):
            self._complain_if_forgotten(progress)
            return None
        raw = anchors.embeddings if anchors.embeddings.dtype.itemsize >= 4 else anchors.embeddings.float()
        with torch.no_grad():
            noise = self._draw(anchors.labels, raw, progress, step.learner)
        copies = (raw[None] + self.lam_at(progress) ** 0.5 * noise).flatten(0, 1)
        views = anchors.views.repeat(self.num_copies, 1)
        return Rows(
            copies,
            anchors.labels.repeat(self.num_copies),
            views if self.own_copies == 'exclude' else torch.full_like(views, -1),
            anchors.indices.repeat(self.num_copies),
        )

    def _complain_if_forgotten(self, progress: Progress) -> None:
        """Silence here would be a run without IAA that calls itself one."""
        if not self._received and progress.iter >= self._onset(progress):
            raise RuntimeError(
                'IAAGenerator got no embeddings although its onset has passed: default_hooks needs '
                "dict(type='SweepHook'), see configs/_base_/default_runtime.py"
            )

    def _draw(self, labels: Tensor, raw: Tensor, progress: Progress, learner: ActiveLearner | None) -> Tensor:
        """``(M, R, D)`` noise of covariance ``Sigma_cr[y]``, a pure function of seed, iteration and global row."""
        seed, step, rank = progress.seed, progress.iter, progress.rank
        if self.noise == 'full':
            random = torch_generator(Stream.IAA_FULL_NOISE, seed, step, rank, device=raw.device)
            return full_covariance_noise(labels, self.num_copies, self._covariances.to(raw.device), generator=random)
        random = torch_generator(Stream.IAA_NOISE, seed, step, device=raw.device)
        rows, dim = raw.shape
        # Drawn for the global batch and cut, so that ranks differ and N ranks together equal one process.
        shape = (self.num_copies, progress.world_size * rows, dim)
        noise = torch.randn(shape, generator=random, device=raw.device)
        noise = noise[:, progress.rank * rows : (progress.rank + 1) * rows]
        std = self._std_of(learner).to(raw.device)[labels]
        exponent = COPY_EXPONENTS[self.copy_exponent]
        return torch.stack([noise[m] * std ** exponent(m + 1) for m in range(self.num_copies)])

    def _std_of(self, learner: ActiveLearner | None) -> Tensor:
        """``(C, D)`` standard deviations; a learner's are corrected at its first turn after an estimate."""
        if learner is None or self.correction is None:
            return self._std
        key = f'{learner.index} of {learner.of}'
        if key not in self._std_by_learner:
            # Learned masks drift: what was corrected with is remembered, so that a resumed run corrects alike.
            scale = self._scales.setdefault(key, learner.scale.clone())
            count, mean, var = (self._statistics[name] for name in ClassStatistics._fields)
            scale = scale.to(var)
            corrected = correct_variance(count, mean * scale, var * scale**2, **self.correction)
            self._std_by_learner[key] = torch.where(scale > 0, corrected.sqrt() / scale, 0)
        return self._std_by_learner[key]

    # ----------------------------------------------------------------------------------------------------- state

    def diagnostics(self) -> dict[str, float]:
        """``trace_ratio = tr(Sigma_cr) / tr(Sigma)`` over classes of two and more images, and the spread of alpha."""
        return self._diagnostics

    def run_state(self) -> dict[str, Any]:
        """Class statistics, and the bank rows that full-covariance noise draws from."""
        state: dict[str, Any] = dict(self._statistics, received=self._received, scales=dict(self._scales))
        if self._covariances is not None:
            state['covariances'] = dataclasses.asdict(self._covariances)
        return state

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Take them back."""
        state = dict(state)
        covariances = state.pop('covariances', None)
        self._received = state.pop('received')
        self._scales = dict(state.pop('scales'))
        self._forget()
        if state:
            self._statistics = state
            self._covariances = CovarianceBank(**covariances) if covariances else None
            self._prepare()


def _check(name: str, value: Any, fits: bool, right: str) -> None:
    if not fits:
        raise ValueError(f'{name} must be {right}, got {value!r}')
