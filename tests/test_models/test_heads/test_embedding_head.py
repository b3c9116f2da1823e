"""What the head hands to the loss, and that synthetic candidates change it by the golden figures."""

import math

import pytest
import torch
from mmengine.model import BaseModel, BaseModule
from toy_openings import ToyBallNeck, ToyPoincareBall

from mmdml.models import EmbeddingHead
from mmdml.models.necks import LinearEmbedding
from mmdml.registry import MODELS
from mmdml.structures import Embeddings, PairBatch, Progress, Rows, StepContext

NECK = LinearEmbedding(2, 2)
LABELS = torch.tensor([0, 0, 1, 1])
STEP = StepContext(Progress(49, 100, 10))  # a diagnostics step
LOSSES = {
    'contrastive': dict(type='ContrastiveLoss'),
    'ms': dict(type='MultiSimilarityLoss'),
    'triplet': dict(type='TripletLoss'),
    'triplet, mean': dict(type='TripletLoss', reduction='mean'),
}
GOLDEN = {
    0: (0.959986, 0.866662, 0.996813, 0.996813),
    1: (1.919973, 1.111703, 1.993626, 0.996813),
    3: (3.839945, 1.402773, 3.987251, 0.996813),
}


@MODELS.register_module()
class RecordingLoss(BaseModule):
    """Keeps the pairs it was given."""

    def forward(self, pairs, mined=None):
        self.pairs, self.mined = pairs, mined
        return pairs.similarity.sum()


@MODELS.register_module()
class OldRows(BaseModule):
    """A memory of two rows of other batches; one of them shows image 5."""

    def forward(self, anchors, step):
        none = torch.full((2, 1), -1)
        return Rows(torch.tensor([[1.0, 1.0], [2.0, 0.0]]), torch.tensor([0, 7]), none, torch.tensor([5, 6]))


@MODELS.register_module()
class Midpoints(BaseModule):
    """Two-parent synthetics: the middle of the first two rows."""

    def forward(self, anchors, step):
        middle = anchors.embeddings[:2].mean(0, keepdim=True)
        return Rows(middle, anchors.labels[:1], torch.tensor([[0, 1]]), torch.tensor([-1]))


def at_angles(*degrees, scale=3.0):
    angle = torch.tensor(degrees) * math.pi / 180
    return (torch.stack([angle.cos(), angle.sin()], 1) * scale).requires_grad_()


def head_with(loss, copies=0, lam=0.0, **options):
    iaa = dict(type='IAAGenerator', num_copies=copies, lam=lam, onset=0, **options) if copies else None
    head = EmbeddingHead(loss=loss, sources=dict(iaa=iaa))
    if copies:
        raw = at_angles(0, 60, 90, 10).detach()
        head.sources['iaa'].estimator.receive_embeddings(Embeddings(raw, LABELS, torch.arange(4), 2), STEP.progress)
    return head


@pytest.mark.parametrize('copies', [0, 1, 3])
@pytest.mark.parametrize('column, name', list(enumerate(LOSSES)))
def test_golden_losses_with_exact_copies(copies, column, name):
    loss = head_with(LOSSES[name], copies).loss(at_angles(0, 60, 90, 10), LABELS, None, NECK, STEP)['loss']
    # The golden values have six decimals.
    assert loss.item() == pytest.approx(GOLDEN[copies][column], abs=1.1e-6)


@pytest.mark.parametrize('name, factor', [('contrastive', 4), ('triplet', 4), ('triplet, mean', 1)])
def test_gradient_with_three_exact_copies_is_a_multiple_of_the_base_loss(name, factor):
    gradients = []
    for copies in (0, 3):
        raw = at_angles(0, 60, 90, 10)
        head_with(LOSSES[name], copies).loss(raw, LABELS, None, NECK, STEP)['loss'].backward()
        gradients.append(raw.grad)
    torch.testing.assert_close(gradients[1], factor * gradients[0])


def test_before_the_onset_the_loss_is_bit_equal_to_the_base_loss():
    plain = head_with(LOSSES['ms']).loss(at_angles(0, 60, 90, 10), LABELS, None, NECK, STEP)
    head = EmbeddingHead(LOSSES['ms'], sources=dict(iaa=dict(type='IAAGenerator', onset=5)))
    early = head.loss(at_angles(0, 60, 90, 10), LABELS, None, NECK, StepContext(Progress(3, 100, 10)))
    assert torch.equal(early['loss'], plain['loss'])


def test_pairs_of_p_times_k_batches_are_counted():
    head = head_with(dict(type='RecordingLoss'), copies=3, lam=0.5)
    head.loss(at_angles(0, 60, 90, 10), LABELS, None, NECK, STEP)
    pairs = head.loss_fn.pairs
    assert pairs.candidates.embeddings.shape == (16, 2)
    assert pairs.positive_mask.sum(1).tolist() == [4] * 4  # (K - 1)(1 + M)
    assert pairs.negative_mask.sum(1).tolist() == [8] * 4  # (B - K)(1 + M)


def test_every_candidate_is_a_unit_row_and_anchors_come_first():
    head = head_with(dict(type='RecordingLoss'), copies=2, lam=0.5)
    raw = at_angles(0, 60, 90, 10)
    head.loss(raw, LABELS, None, NECK, STEP)
    pairs = head.loss_fn.pairs
    torch.testing.assert_close(pairs.candidates.embeddings.norm(dim=1), torch.ones(12))
    torch.testing.assert_close(pairs.anchors.embeddings, raw.detach() / 3)
    assert torch.equal(pairs.candidates.embeddings[:4], pairs.anchors.embeddings)


def test_memory_and_two_parent_rows_keep_their_identities():
    sources = dict(memory=dict(type='OldRows'), middle=dict(type='Midpoints'), off=None)
    head = EmbeddingHead(dict(type='RecordingLoss'), sources=sources, exclude_same_image=True)
    head.loss(at_angles(0, 60, 90, 10), LABELS, torch.tensor([5, 8, 9, 4]), NECK, STEP)
    pairs = head.loss_fn.pairs
    memory, middle = 4, 6
    assert pairs.positive_mask[:, memory].tolist() == [False, True, False, False]  # image 5 is anchor 0 itself
    assert pairs.negative_mask[:, memory + 1].all()
    assert pairs.excluded_mask[:, middle].tolist() == [True, True, False, False]  # both parents
    assert pairs.negative_mask[:, middle].tolist() == [False, False, True, True]


def test_sources_without_progress_are_told_which_hook_is_missing():
    head = EmbeddingHead(LOSSES['ms'], sources=dict(iaa=dict(type='IAAGenerator')))
    with pytest.raises(RuntimeError, match=r"\['iaa'\] depend on the position of the run(.|\n)*StepContextHook"):
        head.loss(at_angles(0, 60, 90, 10), LABELS, None, NECK)


def test_a_source_whose_figures_would_be_added_to_the_loss_is_refused():
    logged = dict(loss=torch.tensor(1.0), closs_candidates=torch.tensor(14.0))
    assert BaseModel.parse_losses(None, logged)[0] == 15  # MMEngine's rule
    with pytest.raises(ValueError, match="a source cannot be called 'closs': its figures would be added to the loss"):
        EmbeddingHead(LOSSES['ms'], sources=dict(closs=dict(type='EmbeddingExpansion')))
    EmbeddingHead(LOSSES['ms'], sources=dict(closs=dict(type='EmbeddingExpansion')), diagnostics_interval=0)


def test_a_miner_is_asked_and_its_pairs_reach_the_loss():
    head = EmbeddingHead(dict(type='RecordingLoss'), miner=dict(type='BatchHardMiner'))
    head.loss(at_angles(0, 60, 90, 10), LABELS, None, NECK, STEP)
    assert head.loss_fn.mined.anchor.tolist() == [0, 1, 2, 3]
    assert head.loss_fn.mined.positive.tolist() == [1, 0, 3, 2]


def test_diagnostics_name_number_share_and_likeness_of_synthetic_candidates():
    head = head_with(LOSSES['ms'], copies=3, lam=0.3)
    log = head.loss(at_angles(0, 60, 90, 10), LABELS, None, NECK, STEP)
    assert log['iaa_candidates'] == 12
    assert 0 < log['iaa_gradient_share'] < 1 and 0 < log['iaa_cosine'] < 1
    other = StepContext(Progress(7, 100, 10))
    assert set(head.loss(at_angles(0, 60, 90, 10), LABELS, None, NECK, other)) == {'loss'}


@pytest.mark.parametrize('options', [dict(), dict(source='bank', noise='full')], ids=['diagonal', 'full'])
def test_losses_are_fp32_under_autocast_and_for_half_embeddings(options):
    head = head_with(LOSSES['ms'], copies=3, lam=0.3, **options)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = at_angles(0, 60, 90, 10).detach().bfloat16().requires_grad_()
        loss = head.loss(half, LABELS, None, NECK, STEP)['loss']
    assert loss.dtype == torch.float32
    exact = head.loss(half.detach().float(), LABELS, None, NECK, STEP)['loss']
    torch.testing.assert_close(loss, exact)
    loss.backward()
    assert torch.isfinite(half.grad).all()


@pytest.mark.parametrize('name', LOSSES)
def test_three_exact_copies_have_three_quarters_of_the_gradient(name):
    losses = head_with(LOSSES[name], 3).loss(at_angles(0, 60, 90, 10), LABELS, None, NECK, STEP)
    torch.testing.assert_close(losses['iaa_gradient_share'], torch.tensor(0.75))
    assert not losses['iaa_gradient_share'].requires_grad and losses['loss'].requires_grad
    losses['loss'].backward()  # The graph is still whole.


def test_a_source_without_gradient_has_a_share_of_zero():
    # Candidates that cost nothing: a memory of rows far from every anchor.
    loss = dict(type='ContrastiveLoss', pos_margin=-1.0, neg_margin=0.9)
    head = EmbeddingHead(loss, sources=dict(memory=dict(type='OldRows')), diagnostics_interval=1)
    log = head.loss(at_angles(180, 185, 190, 200), LABELS, None, NECK, STEP)
    assert log['loss'] > 0 and log['memory_gradient_share'] == 0 and log['memory_candidates'] == 2
    with torch.no_grad():
        assert head.loss(at_angles(180, 185, 190, 200), LABELS, None, NECK, STEP)['memory_gradient_share'] == 0


def test_the_share_of_a_source_is_that_of_its_rows_in_the_gradient():
    head = EmbeddingHead(LOSSES['contrastive'], sources=dict(memory=dict(type='OldRows')), diagnostics_interval=1)
    raw = at_angles(0, 60, 90, 10)
    log = head.loss(raw, LABELS, None, NECK, STEP)
    # L = 1/A sum of hinges: an active pair pulls or pushes its candidate with the unit anchor, 1/A long.
    anchors = raw.detach() / 3
    candidates = torch.cat([anchors, torch.tensor([[0.5**0.5, 0.5**0.5], [1.0, 0.0]])])
    cosine, labels = anchors @ candidates.t(), torch.cat([LABELS, torch.tensor([0, 7])])
    same = LABELS[:, None] == labels
    sign = (cosine > 0.5).float() * ~same - (cosine < 0.8).float() * same
    sign[range(4), range(4)] = 0
    norms = (sign.t() @ anchors).norm(dim=1)
    torch.testing.assert_close(log['memory_gradient_share'], norms[4:].sum() / norms.sum())


def test_remembered_rows_have_a_gradient_at_diagnostics_steps_only_and_the_loss_is_the_same():
    class Recorded(EmbeddingHead):
        def score(self, pairs, mined, learner):
            self.parts = pairs.candidates.parts
            return super().score(pairs, mined, learner)

    values, graphs = [], []
    for interval in (0, 1):
        head = Recorded(LOSSES['ms'], sources=dict(memory=dict(type='OldRows')), diagnostics_interval=interval)
        raw = at_angles(0, 60, 90, 10)
        loss = head.loss(raw, LABELS, None, NECK, STEP)['loss']
        values.append((loss.detach(), torch.autograd.grad(loss, raw)[0]))
        graphs.append([part.requires_grad for part in head.parts])
    assert graphs == [[True, False], [True, True]]
    assert all(torch.equal(*pair) for pair in zip(*values, strict=True))


def test_the_space_of_the_head_is_that_of_the_loss():
    head = EmbeddingHead(dict(type='TripletLoss', margin=1.0), space=dict(type='ToyPoincareBall'))
    raw = torch.tensor([[0.2, 0.0], [0.6, 0.0], [1.5, 0.0], [0.0, 0.3]]).requires_grad_()
    neck = ToyBallNeck()
    value = head.loss(raw, LABELS, None, neck)['loss']
    value.backward()
    unit = neck.unit(raw.detach())
    distance = -ToyPoincareBall().similarity(unit, unit)
    nearest = distance.masked_fill(LABELS[:, None] == LABELS, math.inf).amin(1)
    own = distance[[0, 1, 2, 3], [1, 0, 3, 2]]
    torch.testing.assert_close(value.detach(), (own - nearest + 1).relu().mean())
    assert torch.isfinite(raw.grad).all() and raw.grad.abs().sum() > 0


def test_targets_of_the_head_replace_the_labels_for_copies_too():
    # Labels say that every image is alone; the table says what images have in common.
    table = [[1, 1, 0], [1, 1, 0], [1, 0, 1], [0, 0, 1]]
    iaa = dict(type='IAAGenerator', num_copies=2, lam=0.0, onset=0)
    head = EmbeddingHead(
        dict(type='RecordingLoss'), sources=dict(iaa=iaa), targets=dict(type='ToyLabelSets', table=table)
    )
    raw = at_angles(0, 60, 90, 10)
    data = Embeddings(raw.detach(), LABELS, torch.arange(4), 2)
    head.sources['iaa'].estimator.receive_embeddings(data, STEP.progress)
    head.loss(raw, LABELS, torch.arange(4), NECK, STEP)
    pairs = head.loss_fn.pairs
    expected = torch.tensor([[1, 1, 1 / 3, 0], [1, 1, 1 / 3, 0], [1 / 3, 1 / 3, 1, 1 / 2], [0, 0, 1 / 2, 1]])
    torch.testing.assert_close(pairs.targets, expected.repeat(1, 3))
    assert pairs.positive_mask[3].tolist() == [False, False, True, False] * 3


def test_a_loss_learns_from_soft_targets_through_the_head():
    table = [[1, 1, 0], [1, 1, 0], [1, 0, 1], [0, 0, 1]]
    head = EmbeddingHead(dict(type='NPairsLoss', scale=8.0), targets=dict(type='ToyLabelSets', table=table))
    raw = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    optimizer = torch.optim.Adam([raw], lr=0.05)
    for _ in range(150):
        loss = head.loss(raw, LABELS, torch.arange(4), NECK)['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    cosine = torch.nn.functional.cosine_similarity(raw[:, None], raw[None, :], dim=2)
    assert cosine[0, 1] > cosine[0, 2] > cosine[0, 3] and cosine[2, 3] > cosine[0, 3]


def test_targets_of_a_wrong_shape_or_range_are_named():
    rows = Rows.of_batch(torch.eye(3), torch.arange(3))
    with pytest.raises(ValueError, match=r'targets must be \(A, X\) = \(3, 3\), got \(3, 2\)'):
        PairBatch(rows, rows, targets=torch.zeros(3, 2))
    for wrong in (-0.5, 1.5, math.nan):
        targets = torch.zeros(3, 3)
        targets[1, 2] = wrong
        with pytest.raises(ValueError, match=rf'targets must lie in \[0, 1\], got {wrong}'):
            PairBatch(rows, rows, targets=targets)
