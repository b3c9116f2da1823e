"""Every registered loss of both kinds, without naming them: a new one is tested by being there."""

import dataclasses
import functools
import inspect
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from tiny import REPO
from torch.nn.functional import normalize

import mmdml.models.losses
from mmdml.models import DivideAndConquerHead, EmbeddingHead
from mmdml.models.losses import Loss, PairLoss, ProxyLoss
from mmdml.models.necks import DivideAndConquerEmbedding, LinearEmbedding
from mmdml.registry import MODELS
from mmdml.structures import Embeddings, PairBatch, Pairs, Progress, Rows, StepContext, Triplets

WIDTH, CLASSES = 12, 4
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
ROW = torch.tensor([0])
LOSSES = sorted(
    (
        part
        for part in MODELS.module_dict.values()
        if isinstance(part, type) and issubclass(part, Loss) and part.__module__.startswith('mmdml.')
    ),
    key=lambda part: part.__name__,
)
each_loss = pytest.mark.parametrize('loss', LOSSES, ids=lambda part: part.__name__)


#: Options for tiny batches: with 100 bins, so few pairs are mostly alone in theirs and have no gradient.
OPTIONS = dict(HistogramLoss=dict(num_bins=8))


def config_of(loss, width=WIDTH):
    """The smallest config: class-based losses have two arguments that no default fits."""
    sizes = dict(num_classes=CLASSES, embed_dim=width) if issubclass(loss, ProxyLoss) else {}
    return dict(type=loss.__name__, **sizes, **OPTIONS.get(loss.__name__, {}))


def build(loss, dtype=torch.float32):
    torch.manual_seed(0)
    return MODELS.build(config_of(loss)).to(dtype)


@each_loss
def test_a_setting_that_is_no_number_is_refused_by_name(loss):
    for name, parameter in inspect.signature(loss).parameters.items():
        if isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool):
            for value in (float('nan'), '1'):
                with pytest.raises(ValueError, match=re.escape(f'must be a number, got {value!r}')):
                    MODELS.build({**config_of(loss), name: value})


def _counts(loss):
    kinds = (int, int | None)
    return [name for name, value in inspect.signature(loss).parameters.items() if value.annotation in kinds]


@pytest.mark.parametrize('loss', [loss for loss in LOSSES if _counts(loss)], ids=lambda loss: loss.__name__)
def test_a_count_that_is_no_whole_number_is_refused_when_the_loss_is_built(loss):
    for name in _counts(loss):
        with pytest.raises(ValueError, match='must be an integer of at least [12], got 2.5'):
            MODELS.build({**config_of(loss), name: 2.5})


def raw_rows(rows=8, dtype=torch.float32, seed=0):
    raw = torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return raw.to(dtype).requires_grad_()


def with_copies(raw, labels, copies=1):
    unit = normalize(torch.cat([raw] + [raw.detach() + 0.3 * raw.detach().roll(1, 0)] * copies), dim=1)
    views = torch.arange(len(labels))
    return PairBatch(
        Rows(unit[: len(raw)], labels, views), Rows(unit, labels.repeat(1 + copies), views.repeat(1 + copies))
    )


def check(loss, pairs, raw, dtype=torch.float32):
    """Value of a loss that is a finite scalar with a finite gradient of rows and parameters."""
    value = loss(pairs)
    assert value.shape == () and value.dtype == dtype and torch.isfinite(value)
    value.backward()
    for tensor in (raw, *loss.parameters()):
        assert tensor.grad is not None and torch.isfinite(tensor.grad).all()
    return value.detach()


def test_both_kinds_are_there():
    kinds = {kind: [part for part in LOSSES if issubclass(part, kind)] for kind in (PairLoss, ProxyLoss)}
    assert len(kinds[PairLoss]) >= 5 and len(kinds[ProxyLoss]) >= 1
    assert len(LOSSES) == len(kinds[PairLoss]) + len(kinds[ProxyLoss])


@each_loss
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
def test_value_and_gradient_are_finite_in_both_precisions(loss, dtype):
    raw = raw_rows(dtype=dtype)
    value = check(build(loss, dtype), with_copies(raw, LABELS), raw, dtype)
    assert raw.grad.abs().sum() > 0
    single = raw_rows()
    torch.testing.assert_close(value.float(), build(loss)(with_copies(single, LABELS)).detach(), rtol=1e-4, atol=1e-5)


@each_loss
@pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('of_loss', [torch.float16, torch.float32], ids=str)
def test_rows_and_parameters_may_be_of_two_types(loss, dtype, of_loss):
    raw = raw_rows(dtype=torch.float64)
    rows = normalize(raw, dim=1).to(dtype)
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    check(build(loss, of_loss), PairBatch.from_embeddings(rows, LABELS), raw, expected)


@each_loss
@pytest.mark.parametrize('dtype', [torch.int32, torch.uint8], ids=str)
def test_labels_of_other_integers_make_no_difference(loss, dtype):
    unit = normalize(raw_rows(), dim=1)
    values = [build(loss)(PairBatch.from_embeddings(unit, labels)) for labels in (LABELS, LABELS.to(dtype))]
    assert values[0] == values[1]


@each_loss
def test_autocast_changes_nothing(loss):
    unit = normalize(torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(0)), dim=1)
    pairs, function = PairBatch.from_embeddings(unit, torch.arange(64) % CLASSES), build(loss)
    with torch.autocast('cpu', torch.bfloat16):
        value = function(pairs)
    assert torch.equal(value, function(pairs))


@each_loss
def test_plain_embeddings_are_refused_with_what_makes_pairs_of_them(loss):
    with pytest.raises(TypeError, match=f'{loss.__name__} takes a PairBatch, got Tensor: PairBatch.from_embeddings'):
        build(loss)(normalize(raw_rows(), dim=1), LABELS)


@pytest.mark.parametrize(
    'mined, error, words',
    [
        ((torch.tensor([0]), torch.tensor([1]), torch.tensor([2])), TypeError, 'got tuple'),
        ((torch.tensor([0]),) * 4, TypeError, 'got tuple'),
        (torch.ones(8), ValueError, r'\(A, X\) = \(8, 8\), got \(8,\)'),
        (torch.ones(8, 1), ValueError, r'got \(8, 1\)'),
        (Pairs(ROW.repeat(2), ROW), ValueError, r"one length, got {'anchor': \(2,\), 'candidate': \(1,\)}"),
        (Pairs(ROW.repeat(2), ROW.repeat(2), torch.ones(1)), ValueError, r"'weight': \(1,\)"),
        (Triplets(ROW, ROW, ROW.repeat(2)), ValueError, r"'negative': \(2,\)"),
        (Pairs(ROW[None], ROW[None]), ValueError, r"one length, got {'anchor': \(1, 1\)"),
        (Triplets([0], [1], [2]), TypeError, r'Triplets.anchor must be a tensor, got list'),
        (Pairs(ROW, ROW > 0), TypeError, r'Pairs.candidate must be integers, numbers of rows, got torch.bool'),
        (Pairs(ROW.float(), ROW), TypeError, r'Pairs.anchor must be integers, numbers of rows, got torch.float32'),
    ],
    ids=[
        'plain triplets',
        'plain pairs',
        'a weight a row',
        'a column',
        'one candidate for all',
        'one weight for all',
        'two lengths',
        'matrices',
        'lists',
        'a mask',
        'floats',
    ],
)
@each_loss
def test_what_no_miner_returns_is_refused_and_not_read_as_something_else(loss, mined, error, words):
    with pytest.raises(error, match=words):
        build(loss)(with_copies(raw_rows(), LABELS, copies=0), mined)


@each_loss
@pytest.mark.parametrize(
    'labels',
    [[0, 1, 2, 3], [2, 2, 2, 2], [1], [3, 3], []],
    ids=['no positives', 'one class', 'one row', 'one pair', 'no rows'],
)
def test_degenerate_batches(loss, labels):
    raw = raw_rows(len(labels))
    check(build(loss), with_copies(raw, torch.tensor(labels, dtype=torch.int64), copies=0), raw)


@each_loss
def test_no_candidates_at_all(loss):
    raw = raw_rows(2)
    rows = Rows.of_batch(normalize(raw, dim=1), torch.tensor([0, 1]))
    value = build(loss)(PairBatch(rows, rows[:0]))
    value.backward()
    assert value == 0 and (raw.grad == 0).all()


@each_loss
@pytest.mark.parametrize('fill', [0.0, 1.0], ids=['zero rows', 'equal rows'])
def test_duplicates(loss, fill):
    raw = torch.full((8, WIDTH), fill).requires_grad_()
    check(build(loss), with_copies(raw, LABELS), raw)


@each_loss
def test_rows_that_are_not_finite_are_not_hidden(loss):
    raw = raw_rows()
    raw.data[:] = float('nan')
    value = build(loss)(PairBatch.from_embeddings(raw, torch.arange(8) // 2))
    assert not value.isfinite()


@each_loss
def test_order_of_anchors_and_candidates_does_not_matter(loss):
    pairs = with_copies(raw_rows(dtype=torch.float64), LABELS)
    function = build(loss, torch.float64)
    random = torch.Generator().manual_seed(2)
    anchors, candidates = torch.randperm(8, generator=random), torch.randperm(16, generator=random)
    shuffled = PairBatch(pairs.anchors[anchors], pairs.candidates[candidates])
    torch.testing.assert_close(function(shuffled), function(pairs), rtol=1e-12, atol=1e-12)


@each_loss
def test_candidates_that_were_gathered_from_elsewhere(loss):
    """Two anchors, whose positives and negatives are other rows than they."""
    raw = raw_rows()
    rows = Rows.of_batch(normalize(raw, dim=1), LABELS)
    check(build(loss), PairBatch(rows[::4], rows), raw)
    assert raw.grad[1].abs().sum() > 0 and raw.grad[5].abs().sum() > 0


@each_loss
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_rows_under_autocast_have_a_loss_in_fp32(loss, dtype):
    raw = raw_rows()
    pairs = with_copies(raw.to(dtype), LABELS)
    with torch.autocast('cpu', dtype):
        value = build(loss)(pairs)
    assert value.dtype == torch.float32
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(raw.grad).all() and raw.grad.abs().sum() > 0


@each_loss
def test_with_remembered_candidates(loss):
    """Rows of earlier steps: no graph, no view in common with any anchor, a class that the batch does not have."""
    raw, rest = raw_rows(), raw_rows(6, seed=1).detach()
    anchors = Rows.of_batch(normalize(raw, dim=1), LABELS % 3)
    remembered = Rows(normalize(rest, dim=1), torch.tensor([0, 1, 2, 3, 0, 1]), torch.full((6,), -1))
    value = check(build(loss), PairBatch(anchors, Rows.cat([anchors, remembered])), raw)
    assert raw.grad.abs().sum() > 0 and value != build(loss)(PairBatch(anchors, anchors))


STEP = StepContext(Progress(49, 100, 10))


def step_of(neck, learner):
    return STEP if learner is None else dataclasses.replace(STEP, learner=neck.active(learner))


def with_iaa(head, raw):
    """The head with an estimate, for a diagnostics step with copies."""
    data = Embeddings(raw.detach(), LABELS, torch.arange(8), CLASSES)
    head.sources['iaa'].estimator.receive_embeddings(data, STEP.progress)
    return head


@each_loss
def test_with_iaa(loss):
    sources = dict(iaa=dict(type='IAAGenerator', num_copies=3, lam=0.5, onset=0))
    torch.manual_seed(0)
    raw = raw_rows()
    head = with_iaa(EmbeddingHead(config_of(loss), sources=sources), raw)
    log = head.loss(raw, LABELS, torch.arange(8), LinearEmbedding(4, WIDTH), STEP)
    log['loss'].backward()
    assert torch.isfinite(log['loss']) and torch.isfinite(raw.grad).all() and raw.grad.abs().sum() > 0
    assert log['iaa_candidates'] == 24 and 0 < log['iaa_gradient_share'] < 1


@each_loss
@pytest.mark.parametrize('division', ['slices', 'masks'])
def test_inside_four_learners(loss, division):
    """Every learner, and the merged embedding, with IAA; parameters of other learners stay where they are."""
    sources = dict(iaa=dict(type='IAAGenerator', num_copies=1, lam=0.5, onset=0))
    torch.manual_seed(0)
    head = DivideAndConquerHead(config_of(loss), sources=sources)
    neck = DivideAndConquerEmbedding(in_channels=5, embed_dim=WIDTH, num_learners=4, division=division)
    head.bind(neck)
    features = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    with_iaa(head, neck(features))
    neck.divide(4)
    for learner in (0, 1, 2, 3, None):
        head.zero_grad()
        neck.zero_grad()
        losses = head.loss(neck(features, learner), LABELS, torch.arange(8), neck, step_of(neck, learner))
        losses['loss'].backward()
        assert torch.isfinite(losses['loss'])
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in neck.parameters())
        scored = {id(parameter) for parameter in head.loss_of(learner).parameters()}
        moved = {id(parameter) for parameter in head.parameters() if parameter.grad is not None}
        assert moved <= scored
        if issubclass(loss, ProxyLoss):
            assert moved == scored and moved


@pytest.mark.parametrize(
    'loss', [part for part in LOSSES if issubclass(part, ProxyLoss)], ids=lambda part: part.__name__
)
def test_what_every_class_based_loss_refuses(loss):
    function, raw = build(loss), raw_rows()
    pairs = with_copies(raw, LABELS)
    with pytest.raises(ValueError, match=f'{loss.__name__} .*cannot use mined Triplets; remove the miner'):
        function(pairs, Triplets.none())
    wider = Rows.of_batch(torch.eye(WIDTH + 1), torch.zeros(WIDTH + 1, dtype=torch.int64))
    with pytest.raises(ValueError, match=f'{loss.__name__} has embed_dim={WIDTH}, but the embeddings have {WIDTH + 1}'):
        function(PairBatch(wider, wider))
    for label in (-1, CLASSES):
        outside = Rows.of_batch(pairs.anchors.embeddings, LABELS.clone().fill_(label))
        with pytest.raises(ValueError, match=rf'num_classes={CLASSES}, so labels must lie in 0\.\.3, got {label}'):
            function(PairBatch(outside, outside))
    for name in ('num_classes', 'embed_dim'):
        with pytest.raises(ValueError, match=f'{name} must be an integer of at least 1, got 0'):
            MODELS.build({**config_of(loss), name: 0})


@pytest.mark.parametrize(
    'loss', [part for part in LOSSES if issubclass(part, ProxyLoss)], ids=lambda part: part.__name__
)
def test_proxies_are_directions_whose_score_is_averaged_beside_further_terms(loss):
    function = build(loss, torch.float64)
    pairs = with_copies(raw_rows(dtype=torch.float64), LABELS)
    expected = function(pairs)
    cosine = pairs.candidates.embeddings @ function.unit_proxies().t()
    score = function.score(cosine, pairs.candidates.labels)
    assert score.shape == (16,)
    torch.testing.assert_close(score.mean() + function.further_terms(pairs, function.unit_proxies()), expected)
    with torch.no_grad():
        function.proxies.mul_(7)
    torch.testing.assert_close(function(pairs), expected)
    torch.testing.assert_close(function(pairs, unit_proxies=function.unit_proxies()), expected)


@functools.cache
def published_configs():
    """The configs that a metafile names, the smallest first."""
    named = set()
    for metafile in Path(REPO, 'configs').rglob('metafile.yml'):
        named |= {Path(REPO, model['Config']) for model in yaml.safe_load(metafile.read_text())['Models']}
    return sorted(named, key=lambda path: (len(path.name), path.name))


def with_bases(path):
    """Text of a config and of all that it inherits."""
    text = path.read_text()
    bases = re.findall(r"'([^']+\.py)'", text[: text.find(']') + 1] if text.startswith('_base_') else '')
    return text + ''.join(with_bases(path.parent / base) for base in bases)


def trains_with(path, loss):
    """Whether the model of a config has the loss; the text is read first, because loading takes a while."""
    if f"'{loss}'" not in with_bases(path):
        return False
    model = repr(Config.fromfile(str(path)).model.to_dict())
    return loss in re.findall(r"'loss': \{[^{}]*'type': '(\w+)'", model)


@each_loss
def test_the_four_places_of_a_loss_agree(loss):
    """Its file, the package, a config that trains with it, and a metafile entry of that config."""
    own = Path(mmdml.models.losses.__file__).parent / f'{snake_case(loss.__name__)}.py'
    assert own.is_file() and loss.__module__ == f'mmdml.models.losses.{own.stem}'
    assert loss.__name__ in mmdml.models.losses.__all__ and getattr(mmdml.models.losses, loss.__name__) is loss
    assert any(trains_with(path, loss.__name__) for path in published_configs())


def snake_case(name):
    """``ProxyNCALoss`` -> ``proxy_nca_loss``."""
    return re.sub(r'(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])', '_', name).lower()


def test_a_loss_without_config_or_with_a_name_of_its_own_is_found_out():
    assert not any(trains_with(path, 'NoSuchLoss') for path in published_configs())
    assert snake_case('ProxyNCALoss') == 'proxy_nca_loss' and snake_case('NPairsLoss') == 'n_pairs_loss'


@each_loss
def test_a_loss_is_short_and_independent_of_what_makes_candidates(loss):
    """A file of its own that names neither sources, ranks nor learners in its code."""
    path = Path(mmdml.models.losses.__file__).parent / f'{snake_case(loss.__name__)}.py'
    imports = [line for line in path.read_text().splitlines() if re.match(r'(from|import) ', line)]
    allowed = (
        r'(from|import) (torch|math|collections\.abc|mmdml\.(registry|structures|models\.losses|utils\.numbers)'
        r'|\.(base|checks|pair_sums|proxy_loss|softmax_proxy_loss|n_pairs_loss|reductions|widths))\b'
    )
    assert [line for line in imports if not re.match(allowed, line)] == []


def test_a_reader_follows_the_multi_similarity_loss_through_three_files():
    """Files of mmdml whose code runs from the call of the loss to its value, counted whole."""
    pairs, loss = with_copies(raw_rows(), LABELS), build(mmdml.models.losses.MultiSimilarityLoss)
    package, files = str(Path(mmdml.__file__).parent), set()

    def trace(frame, event, argument):
        if frame.f_code.co_filename.startswith(package):
            files.add(frame.f_code.co_filename)

    sys.setprofile(trace)
    try:
        loss(pairs)
    finally:
        sys.setprofile(None)
    assert {Path(file).stem for file in files} == {'multi_similarity_loss', 'base', 'pair_batch'}
    assert sum(len(Path(file).read_text().splitlines()) for file in files) <= 350


def test_a_loss_of_pairs_alone_and_further_arguments_by_position_work():
    class Plain(PairLoss):
        def forward(self, pairs):
            return pairs.similarity.mean()

    pairs = PairBatch.from_embeddings(normalize(raw_rows(), dim=1), LABELS)
    assert Plain()(pairs) == pairs.similarity.mean()
    loss = MODELS.build(dict(type='NormSoftmaxLoss', num_classes=CLASSES, embed_dim=WIDTH))
    proxies = normalize(loss.proxies, dim=1)
    assert loss(pairs, None, proxies) == loss(pairs, unit_proxies=proxies) == loss(pairs)
