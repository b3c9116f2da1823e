"""Generation of synthetic embeddings and the schedule of estimates."""

import copy
import math

import pytest
import torch

from mmdml.models import EmbeddingHead, IAAGenerator, LinearEmbedding
from mmdml.structures import Embeddings, Progress, Rows, StepContext

START = Progress(iter=20, max_iters=1000, epoch_length=10)  # a bank has had its epoch to fill


def embeddings_of(raw, labels, num_classes=None):
    num_classes = num_classes or int(labels.max()) + 1
    return Embeddings(raw, labels, torch.arange(len(labels)), num_classes)


def training_set(classes=6, images=8, dim=4, seed=0):
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(images)
    spread = torch.rand(classes, dim, generator=random) + 0.1
    raw = torch.randn(classes, dim, generator=random)[labels] * 3
    return embeddings_of(raw + spread[labels] * torch.randn(len(labels), dim, generator=random), labels)


def estimated(data, **options):
    generator = IAAGenerator(**{'onset': 0, 'lam_schedule': 'constant', **options})
    generator.estimator.receive_embeddings(data, START)
    return generator


def batch(data, rows):
    return Rows.of_batch(data.raw[rows].clone().requires_grad_(), data.labels[rows], data.indices[rows])


def draws(generator, anchors, number):
    """(number * M, R, D) copies minus their sources."""
    made = [generator(anchors, StepContext(Progress(20 + i, 10**6, 10))).embeddings.detach() for i in range(number)]
    shape = (-1, *anchors.embeddings.shape)
    return torch.cat([rows.reshape(shape) for rows in made]) - anchors.embeddings.detach()


def test_copies_have_the_mean_of_their_source_and_lambda_times_the_corrected_variance_for_every_copy_index():
    data = training_set()
    generator = estimated(data, num_copies=3, lam=0.7)
    anchors = batch(data, [0, 9, 20])
    number = 3000
    noise = draws(generator, anchors, number).reshape(number, 3, 3, 4)
    expected = 0.7 * generator.estimator.run_state()['corrected'][anchors.labels]
    for copy_index in range(3):
        part = noise[:, copy_index]
        error = part.mean(0) / (expected / number).sqrt()
        assert error.abs().max() < 4.5
        ratio = part.var(0, correction=0) / expected
        assert (ratio - 1).abs().max() < 4.5 * math.sqrt(2 / number)


def test_copies_are_mutually_independent():
    data = training_set()
    generator = estimated(data, num_copies=2, lam=1.0)
    noise = draws(generator, batch(data, [0]), 3000).reshape(3000, 2, 4)
    std = noise.std(0)
    correlation = (noise[:, 0] * noise[:, 1]).mean(0) / (std[0] * std[1])
    assert correlation.abs().max() < 4.5 / math.sqrt(3000)


def test_expected_squared_distance_is_lambda_times_the_trace():
    data = training_set()
    generator = estimated(data, num_copies=3, lam=0.5)
    anchors = batch(data, [3])
    squared = draws(generator, anchors, 2000).pow(2).sum(2).mean()
    trace = 0.5 * generator.estimator.run_state()['corrected'][anchors.labels].sum()
    assert squared.item() == pytest.approx(trace.item(), rel=0.05)


@pytest.mark.parametrize('noise', ['diagonal', 'full'])
def test_lambda_zero_gives_exact_copies_and_finite_gradients(noise):
    data = training_set()
    generator = estimated(data, lam=0.0, noise=noise, source='bank')
    anchors = batch(data, [0, 1])
    rows = generator(anchors, StepContext(START))
    assert torch.equal(rows.embeddings, anchors.embeddings.repeat(3, 1))
    rows.embeddings.sum().backward()
    assert torch.isfinite(anchors.embeddings.grad).all()


def test_variance_zero_gives_exact_copies():
    raw = torch.tensor([[1.0, 2.0]]).repeat(4, 1)
    generator = estimated(embeddings_of(raw, torch.tensor([0, 0, 1, 1])))
    rows = generator(Rows.of_batch(raw, torch.tensor([0, 0, 1, 1])), StepContext(START))
    assert torch.equal(rows.embeddings, raw.repeat(3, 1))


def test_gradient_is_the_identity_and_reaches_no_statistics():
    data = training_set()
    generator = estimated(data, num_copies=3)
    anchors = batch(data, [0, 9])
    weight = torch.randn(6, 4)
    (generator(anchors, StepContext(START)).embeddings * weight).sum().backward()
    torch.testing.assert_close(anchors.embeddings.grad, weight.reshape(3, 2, 4).sum(0))
    assert not any(generator.estimator.run_state()[key].requires_grad for key in ('mean', 'var', 'corrected'))
    assert not list(generator.parameters()) and not list(generator.buffers())


def test_copies_are_copy_major_and_inherit_label_view_and_index():
    data = training_set()
    rows = estimated(data, num_copies=2)(batch(data, [5, 40]), StepContext(START))
    assert rows.labels.tolist() == [0, 5, 0, 5]
    assert rows.views.flatten().tolist() == [0, 1, 0, 1]
    assert rows.indices.tolist() == [5, 40, 5, 40]


def test_released_exponent_roots_the_variance_anew_for_every_copy():
    data = training_set()
    anchors = batch(data, [0, 9])
    paper = estimated(data, num_copies=3, lam=0.8)
    released = estimated(data, num_copies=3, lam=0.8, copy_exponent='released')
    std = paper.estimator.run_state()['corrected'].sqrt()[anchors.labels]
    source = anchors.embeddings.detach()
    eps = (paper(anchors, StepContext(START)).embeddings.detach().reshape(3, 2, 4) - source) / std
    noise = released(anchors, StepContext(START)).embeddings.detach().reshape(3, 2, 4) - source
    for copy_index, power in enumerate((1, 0.5, 0.25)):
        torch.testing.assert_close(noise[copy_index], eps[copy_index] * std**power)


def test_uncorrected_variance_is_the_class_variance_itself():
    state = estimated(training_set(), correction=False).estimator.run_state()
    assert torch.equal(state['corrected'], state['var'])
    assert not torch.equal(estimated(training_set()).estimator.run_state()['corrected'], state['var'])


def test_corrected_statistics_take_the_options_given():
    from mmdml.models.generators import correct_variance

    data = training_set()
    state = estimated(data, correction=dict(num_neighbors=2, gamma=0.5)).estimator.run_state()
    expected = correct_variance(state['count'], state['mean'], state['var'], num_neighbors=2, gamma=0.5)
    assert torch.equal(state['corrected'], expected)


def test_scaling_all_embeddings_scales_the_noise_and_released_noise_does_not():
    data = training_set()
    scaled = embeddings_of(data.raw * 8, data.labels)
    for exponent, invariant in (('paper', True), ('released', False)):
        small = estimated(data, copy_exponent=exponent)(batch(data, [0, 9]), StepContext(START)).embeddings
        large = estimated(scaled, copy_exponent=exponent)(batch(scaled, [0, 9]), StepContext(START)).embeddings
        assert torch.allclose(large, small * 8, rtol=1e-4) == invariant


def test_a_class_with_one_image_is_augmented_by_its_neighbors():
    data = training_set()
    raw = torch.cat([data.raw, torch.randn(1, 4)])
    data = embeddings_of(raw, torch.cat([data.labels, torch.tensor([6])]))
    noise = estimated(data)(batch(data, [48]), StepContext(START)).embeddings - raw[48]
    assert (noise.abs() > 1e-4).all()


def test_without_any_class_of_two_images_iaa_is_off_with_a_warning(monkeypatch):
    said = []
    monkeypatch.setattr('mmdml.models.generators.iaa.estimator.print_log', lambda text, **_: said.append(text))
    data = embeddings_of(torch.randn(3, 2), torch.arange(3))
    generator = estimated(data)
    assert generator(batch(data, [0]), StepContext(START)) is None
    assert said == ['IAA is off: none of the 3 classes has two images to estimate a variance from']


def test_half_precision_rows_get_noise_in_fp32():
    data = training_set()
    anchors = batch(data, [0, 9])
    half = Rows.of_batch(anchors.embeddings.detach().half(), anchors.labels)
    rows = estimated(data)(half, StepContext(START))
    assert rows.embeddings.dtype == torch.float32 and torch.isfinite(rows.embeddings).all()


def test_noise_depends_on_seed_and_iteration_alone():
    data = training_set()
    generator, anchors = estimated(data), batch(data, [0, 9])
    first = generator(anchors, StepContext(Progress(3, 1000, 10, seed=1))).embeddings
    torch.rand(7)
    assert torch.equal(generator(anchors, StepContext(Progress(3, 1000, 10, seed=1))).embeddings, first)
    assert not torch.equal(generator(anchors, StepContext(Progress(4, 1000, 10, seed=1))).embeddings, first)
    assert not torch.equal(generator(anchors, StepContext(Progress(3, 1000, 10, seed=2))).embeddings, first)


def test_ranks_that_do_not_gather_draw_their_parts_of_one_global_noise():
    data = training_set()
    generator = estimated(data, num_copies=2)
    whole = generator(batch(data, [0, 9, 20, 30]), StepContext(Progress(0, 1000, 10))).embeddings.reshape(2, 4, 4)
    for rank, rows in enumerate(([0, 9], [20, 30])):
        part = generator(batch(data, rows), StepContext(Progress(0, 1000, 10, rank=rank, world_size=2))).embeddings
        torch.testing.assert_close(part.reshape(2, 2, 4), whole[:, 2 * rank : 2 * rank + 2])


def test_state_gives_another_generator_the_same_noise():
    for options in ({}, dict(source='bank', noise='full')):
        data = training_set()
        generator = estimated(data, **options)
        again = IAAGenerator(onset=0, lam_schedule='constant', **options)
        again.estimator.load_run_state(copy.deepcopy(generator.estimator.run_state()))
        anchors = batch(data, [0, 9])
        step = StepContext(START)
        assert torch.equal(again(anchors, step).embeddings, generator(anchors, step).embeddings)
        assert again.diagnostics() == generator.diagnostics()


def test_full_noise_has_the_class_covariance():
    random = torch.Generator().manual_seed(0)
    mix = torch.tensor([[1.0, 0.0], [0.9, 0.3]])
    raw = torch.randn(40, 2, generator=random) @ mix.t()
    data = embeddings_of(raw, torch.zeros(40, dtype=torch.long))
    generator = estimated(data, source='bank', noise='full', correction=False, lam=1.0, num_copies=3)
    noise = draws(generator, batch(data, [0]), 3000).reshape(-1, 2)
    centered = raw - raw.mean(0)
    torch.testing.assert_close(noise.t() @ noise / len(noise), centered.t() @ centered / 40, rtol=0.1, atol=0.02)


def test_a_class_absent_from_the_sweep_borrows_the_pooled_variance_and_gives_no_nan():
    data = training_set()
    data = embeddings_of(data.raw, data.labels, num_classes=7)
    rows = estimated(data)(Rows.of_batch(torch.zeros(1, 4), torch.tensor([6])), StepContext(START))
    assert torch.isfinite(rows.embeddings).all()


def due(generator, max_iters=100, epoch_length=10):
    return [i for i in range(max_iters) if generator.estimator.embeddings_due(Progress(i, max_iters, epoch_length))]


def test_estimates_are_due_from_the_onset_every_interval():
    assert due(IAAGenerator(onset=3, update_interval=2)) == [30, 50, 70, 90]
    assert due(IAAGenerator(onset=0.25, update_interval=3)) == [25, 55, 85]
    assert due(IAAGenerator(onset=0, update_interval=0.5)) == [0, 50]


def test_an_onset_as_a_fraction_is_reached_in_the_shortest_run():
    assert due(IAAGenerator(onset=0.05, update_interval=2), max_iters=3, epoch_length=3) == [1]


def test_a_bank_fills_for_an_epoch_before_it_is_read():
    assert due(IAAGenerator(onset=0.05, source='bank', update_interval=3)) == [10, 40, 70]
    assert due(IAAGenerator(onset=4, source='bank', update_interval=3)) == [40, 70]


def test_a_schedule_that_never_begins_is_refused_unless_it_is_meant():
    IAAGenerator(onset=1.0).estimator.check_schedule(Progress(0, 100, 10))
    IAAGenerator(onset=9).estimator.check_schedule(Progress(0, 100, 10))
    for options in (dict(onset=10), dict(onset=5, warmup=0.5), dict()):
        with pytest.raises(ValueError, match='IAA would never begin'):
            IAAGenerator(**options).estimator.check_schedule(Progress(0, 100, 10))


def test_warm_up_estimates_but_does_not_augment():
    data = training_set()
    generator = IAAGenerator(onset=1, warmup=2)
    generator.estimator.receive_embeddings(data, Progress(10, 100, 10))
    assert [i for i in range(100) if generator.active(Progress(i, 100, 10))] == list(range(30, 100))


def test_released_schedule_lowers_lambda_after_40_60_and_80_percent():
    generator = IAAGenerator(lam=1.0)
    lams = [generator.lam_at(Progress(i, 100, 10)) for i in range(0, 100, 10)]
    assert lams == [1, 1, 1, 1, 0.9, 0.9, 0.75, 0.75, 0.6, 0.6]
    constant = IAAGenerator(lam=0.8, lam_schedule='constant')
    assert constant.lam_at(Progress(99, 100, 10)) == 0.8


def test_momentum_mixes_statistics_as_the_released_code():
    first, second = training_set(seed=0), training_set(seed=1)
    generator = estimated(first, momentum=0.2)
    old = generator.estimator.run_state()
    generator.estimator.receive_embeddings(second, START)
    fresh = estimated(second).estimator.run_state()
    mixed = generator.estimator.run_state()
    shift = (old['mean'] - fresh['mean']) ** 2
    torch.testing.assert_close(mixed['mean'], 0.2 * old['mean'] + 0.8 * fresh['mean'])
    torch.testing.assert_close(mixed['var'], 0.2 * old['var'] + 0.8 * fresh['var'] + 0.16 * shift)


def test_own_copies_become_positives_by_option():
    from mmdml.structures import PairBatch

    data = training_set()
    anchors = batch(data, [0, 9])
    for option, positives in (('exclude', 0), ('positive', 3)):
        rows = Rows.cat([anchors, estimated(data, own_copies=option)(anchors, StepContext(START))])
        unit = torch.nn.functional.normalize(rows.embeddings, dim=1)
        pairs = PairBatch(Rows(unit[:2], anchors.labels, anchors.views), Rows(unit, rows.labels, rows.views))
        assert pairs.positive_mask.sum(1).tolist() == [positives, positives]


def test_diagnostics_tell_the_trace_ratio_and_the_spread_of_alpha():
    generator = estimated(training_set(images=8))
    state, log = generator.estimator.run_state(), generator.diagnostics()
    assert log['trace_ratio'] == pytest.approx((state['corrected'].sum() / state['var'].sum()).item(), rel=1e-5)
    assert log['alpha_mean'] == pytest.approx(1 / (1 + math.log(1.7)), rel=1e-5)
    assert log['alpha_min'] == log['alpha_max']


def test_a_run_that_forgot_the_sweep_hook_is_told_so_at_the_onset():
    generator, anchors = IAAGenerator(onset=1), batch(training_set(), [0])
    assert generator(anchors, StepContext(Progress(9, 100, 10))) is None
    with pytest.raises(RuntimeError, match="default_hooks needs dict\\(type='SweepHook'\\)"):
        generator(anchors, StepContext(Progress(10, 100, 10)))


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(num_copies=0), 'num_copies must be an integer >= 1, got 0'),
        (dict(lam=-0.1), 'lam must be >= 0'),
        (dict(onset=1.5), 'onset must be epochs'),
        (dict(update_interval=0), 'update_interval must be > 0'),
        (dict(lam_schedule='cosine'), "one of \\['released', 'constant'\\], got 'cosine'"),
        (dict(source='memory'), 'source must be one of'),
        (dict(noise='full'), "set source='bank'"),
        (dict(noise='full', source='bank', momentum=0.2), 'neither momentum nor copy_exponent'),
        (dict(source='bank', transform='test'), "transform is that of the sweep, and source='bank' makes none"),
        (dict(noise='identity', copy_exponent='released'), "noise='identity' is the same for all classes"),
        (dict(noise='identity', correction=dict(beta=0.3)), "noise='identity' is the same for all classes"),
        (dict(noise='identity', momentum=0.2), "noise='identity' is the same for all classes"),
        (dict(noise='identity', images_per_class=3), "noise='identity' is the same for all classes"),
    ],
)
def test_values_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        IAAGenerator(**options)


def test_nan_embeddings_are_named_by_row():
    data = training_set()
    data.raw[7, 1] = float('nan')
    with pytest.raises(ValueError, match='7'):
        estimated(data)


@pytest.mark.parametrize(
    ('correction', 'message'),
    [
        (dict(num_neighbours=10), "no setting 'num_neighbours'.*did you mean 'num_neighbors'"),
        (dict(gamma=3.0), r'gamma must be in \[0, 1\], got 3.0'),
        (dict(num_neighbors=0), 'num_neighbors must be'),
        (dict(sigma_mean=0), 'sigma_mean must be'),
        (dict(beta=-1), 'beta must not be negative, got -1'),
        (dict(tau='a'), "correction={'tau': 'a'}: "),
        (dict(count=3), "no setting 'count'"),
        (None, 'correction must be True, False or settings by name, got None'),
        (3, 'correction must be True, False or settings by name, got 3'),
    ],
    ids=str,
)
def test_settings_of_the_correction_are_checked_when_it_is_built(correction, message):
    with pytest.raises(ValueError, match=message):
        IAAGenerator(correction=correction)
    assert (
        IAAGenerator(correction=dict(num_neighbors=3, sigma_mean=math.inf)).estimator.correction['num_neighbors'] == 3
    )


def test_identity_noise_around_the_mean_takes_what_moves_the_mean():
    IAAGenerator(noise='identity', center='mean', momentum=0.2, images_per_class=3, correction=False)


def test_a_head_that_leaves_out_pairs_of_one_image_refuses_own_copies_as_positives():
    def bind(**options):
        sources = dict(iaa=dict(type='IAAGenerator', **options))
        head = EmbeddingHead(dict(type='ContrastiveLoss'), sources=sources, exclude_same_image=True)
        head.bind(LinearEmbedding(4, 4))

    bind()
    with pytest.raises(ValueError, match="own_copies='positive' and head.exclude_same_image=True contradict"):
        bind(own_copies='positive')


def test_a_run_resumed_to_another_length_is_told_that_its_shares_lie_elsewhere(monkeypatch):
    texts = []
    monkeypatch.setattr('mmdml.models.generators.iaa.estimator.print_log', lambda text, **_: texts.append(text))
    first = estimated(training_set(), onset=0.1).estimator
    first.check_schedule(Progress(0, 100, 10))
    for length, told in ((100, 0), (200, 1)):
        texts.clear()
        again = IAAGenerator(onset=0.1).estimator
        again.load_run_state(copy.deepcopy(first.run_state()))
        again.check_schedule(Progress(50, length, 10))
        assert sum('200 updates now and 100 before it was resumed' in text for text in texts) == told
    early = {name: value for name, value in first.run_state().items() if name != 'run_length'}
    again.load_run_state(early)  # of a version that did not keep it
    assert again.run_length is None and again.ready
