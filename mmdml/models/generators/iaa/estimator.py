"""Estimation for IAA: class statistics, corrected by their neighbors (T-MM 2022, Eq. 7-16)."""

import dataclasses
import logging
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor

from mmdml.structures import ActiveLearner, Embeddings, Progress
from mmdml.utils.numbers import is_number, is_whole
from mmdml.utils.seeding import Stream, torch_generator

from .checks import check
from .class_statistics import ClassStatistics, class_statistics, update_statistics
from .full_covariance import CovarianceBank
from .neighbor_correction import check_correction, correct_variance, correction_weight
from .schedule import Schedule

_SOURCES = ('sweep', 'bank')
_TRANSFORMS = (None, 'train', 'test')


class IAAEstimator(BaseModule):
    """Corrected class covariances of the training set, estimated anew at the times of a schedule.

    A subscriber of ``SweepHook``; its arguments are described in :class:`IAAGenerator`, whose part it is.

    Args:
        schedule: when to estimate.
        transform: of the sweep.
        full_covariance: also keep what full-covariance noise is drawn from.
        correction: arguments of :func:`correct_variance` by name, None for the uncorrected variance.
        momentum: weight of the old statistics in an update, None to estimate afresh.
        images_per_class: images of each class that enter an estimate, drawn at random; None for all.

    Raises:
        ValueError: for values out of range.
    """

    def __init__(
        self,
        schedule: Schedule,
        transform: str | None = None,
        full_covariance: bool = False,
        correction: dict[str, Any] | None = None,
        momentum: float | None = None,
        images_per_class: int | None = None,
    ) -> None:
        super().__init__()
        fits = images_per_class is None or (is_whole(images_per_class) and images_per_class >= 2)
        check('images_per_class', images_per_class, fits, 'None or >= 2')
        fits = momentum is None or (is_number(momentum) and 0 <= momentum <= 1)
        check('momentum', momentum, fits, 'None or in [0, 1]')
        if correction is not None:
            check_correction(correction)
        check('transform', transform, transform in _TRANSFORMS, f'one of {list(_TRANSFORMS)}')
        self.schedule = schedule
        self.embedding_source = 'bank' if schedule.from_bank else 'sweep'
        self.sweep_transform = transform
        self.full_covariance = full_covariance
        self.correction = None if correction is None else dict(correction)
        self.momentum = momentum
        self.images_per_class = images_per_class
        #: What full-covariance noise is drawn from.
        self.covariances: CovarianceBank | None = None
        #: Whether embeddings were ever received.
        self.received = False
        #: Iterations of the run, by which shares of it are counted; None before training.
        self.run_length: int | None = None
        # No buffers: on resume RunStateHook restores them, and they are not published with the weights.
        self._statistics: dict[str, Tensor] = {}
        self._std: Tensor | None = None
        self._std_by_learner: dict[str, Tensor] = {}
        self._scales: dict[str, Tensor] = {}
        self._diagnostics: dict[str, float] = {}

    @property
    def ready(self) -> bool:
        """Whether there is an estimate."""
        return self._std is not None

    @property
    def statistics(self) -> dict[str, Tensor]:
        """``count (C,)``, ``mean``, ``var`` and ``corrected`` variances ``(C, D)`` of the last estimate, if any."""
        return self._statistics

    def embeddings_due(self, progress: Progress) -> bool:
        """Whether an estimate is due before this iteration."""
        return self.schedule.estimate_due(progress)

    def check_schedule(self, progress: Progress) -> None:
        """Check the schedule against the run, and log from which update on statistics and copies are there.

        A resumed run of another length is not the one that would have been that long: a warning says so.
        """
        self.schedule.check(progress)
        if self.run_length not in (None, progress.max_iters):
            print_log(
                f'IAA: the run is to have {progress.max_iters:,} updates now and {self.run_length:,} before it was '
                "resumed: spans that are shares of the run, and the steps of lam_schedule='released', lie elsewhere "
                'from here on',
                logger='current',
                level=logging.WARNING,
            )
        self.run_length = progress.max_iters
        first, begin = self.schedule.first_estimate(progress), self.schedule.first_copies(progress)
        if begin < progress.max_iters:
            print_log(
                f'IAA: statistics from update {first + 1}, copies from update {begin + 1} of {progress.max_iters}',
                logger='current',
            )

    def receive_embeddings(self, embeddings: Embeddings, progress: Progress) -> None:
        """Estimate class statistics and correct the variances (Eq. 7-16)."""
        self.received = True
        embeddings = self._some(embeddings, progress)
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
        if self.full_covariance:
            self.covariances = CovarianceBank.build(
                embeddings.raw, embeddings.labels, embeddings.num_classes, correction=self.correction
            )
        self._prepare()
        log = ', '.join(f'{key} {value:.3f}' for key, value in self._diagnostics.items())
        print_log(
            f'IAA statistics of {int(fresh.count.sum())} images in {int((fresh.count > 0).sum())} classes: {log}',
            logger='current',
        )

    def _some(self, embeddings: Embeddings, progress: Progress) -> Embeddings:
        """Return random images of each class, as many as there should be."""
        if self.images_per_class is None:
            return embeddings
        random = torch_generator(Stream.IAA_IMAGES, progress.seed, progress.iter)
        order = torch.randperm(len(embeddings.labels), generator=random).to(embeddings.labels.device)
        order = order[embeddings.labels[order].argsort(stable=True)]
        labels = embeddings.labels[order]
        # Of sorted labels, the place of each within its class.
        place = torch.arange(len(labels), device=labels.device) - torch.searchsorted(labels, labels)
        chosen = order[place < self.images_per_class].sort().values
        columns = {name: getattr(embeddings, name)[chosen] for name in ('raw', 'labels', 'indices')}
        return dataclasses.replace(embeddings, features=None, **columns)

    def _prepare(self) -> None:
        """Derive standard deviations and diagnostics from the statistics."""
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
        self._statistics, self._std, self.covariances, self._diagnostics = {}, None, None, {}

    def move_to(self, device: torch.device) -> None:
        """Hold the estimate where the rows are: a resumed one lies on the host, and would be copied at every step."""
        if self._std is None or self._std.device == device:
            return
        self._statistics = {name: value.to(device) for name, value in self._statistics.items()}
        self._std, self._std_by_learner = self._std.to(device), {}
        self.covariances = None if self.covariances is None else self.covariances.to(device)

    def std_of(self, learner: ActiveLearner | None) -> Tensor:
        """``(C, D)`` standard deviations, square roots of the corrected variances (Eq. 15).

        A learner's variances are corrected in its own space, ``scale * z``, at its first turn after an estimate;
        neurons of factor 0 get 0.
        """
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

    def diagnostics(self) -> dict[str, float]:
        """``trace_ratio = tr(Sigma_cr) / tr(Sigma)`` over classes of two and more images, and the spread of alpha."""
        return self._diagnostics

    def run_state(self) -> dict[str, Any]:
        """Class statistics, and the bank rows that full-covariance noise draws from."""
        state: dict[str, Any] = dict(self._statistics, received=self.received, scales=dict(self._scales))
        if self.run_length is not None:
            state['run_length'] = self.run_length
        if self.covariances is not None:
            state['covariances'] = dataclasses.asdict(self.covariances)
        return state

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`run_state` returned."""
        state = dict(state)
        covariances = state.pop('covariances', None)
        self.received = state.pop('received')
        self._scales = dict(state.pop('scales'))
        self.run_length = state.pop('run_length', None)  # checkpoints of earlier versions do not say
        self._forget()
        if state:
            self._statistics = state
            self.covariances = CovarianceBank(**covariances) if covariances else None
            self._prepare()
