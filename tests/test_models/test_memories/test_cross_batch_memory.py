"""Cross-batch memory: what a step sees, by a plain list, in learners, and after resuming."""

import dataclasses
import io

import pytest
import torch
from ranks import run_group
from tiny import tiny_config, train, weights
from torch.nn.functional import normalize

from mmdml.models import CrossBatchMemory, DivideAndConquerHead, EmbeddingHead
from mmdml.models.losses import ContrastiveLoss
from mmdml.models.necks import DivideAndConquerEmbedding, LinearEmbedding
from mmdml.structures import Embeddings, PairBatch, Progress, Rows, StepContext

WIDTH, LABELS = 5, torch.tensor([0, 0, 1, 1])


def step_at(iteration, **options):
    return StepContext(Progress(iteration, 100, 10, **options))


def batch(iteration, rows=4, width=WIDTH):
    raw = torch.randn(rows, width, generator=torch.Generator().manual_seed(iteration)).requires_grad_()
    labels = torch.arange(rows) // 2 + iteration % 3
    return Rows.of_batch(raw, labels, torch.arange(rows) + 10 * iteration)


@pytest.mark.parametrize('size', [1, 4, 6, 9, 100])
def test_a_step_sees_the_latest_rows_of_earlier_steps_as_a_list_would_keep_them(size):
    memory, kept = CrossBatchMemory(size=size, start=0.0), []
    for iteration in range(7):
        rows = batch(iteration)
        seen = memory(rows, step_at(iteration))
        if not kept:
            assert seen is None
        else:
            found = sorted(zip(seen.indices.tolist(), seen.labels.tolist(), seen.embeddings.tolist(), strict=True))
            assert found == sorted(kept)
            assert not seen.embeddings.requires_grad and (seen.views == -1).all()
        parts = (rows.indices.tolist(), rows.labels.tolist(), rows.embeddings.tolist())
        kept = [*kept, *zip(*parts, strict=True)][-size:]


def test_what_a_step_sees_stays_as_it_was_when_the_queue_is_overwritten():
    memory = CrossBatchMemory(size=4, start=0)
    memory(batch(0), step_at(0))
    seen = memory(batch(1), step_at(1))
    assert torch.equal(seen.embeddings, batch(0).embeddings)


@pytest.mark.parametrize('start, first', [(0, 0), (2, 20), (0.25, 25)])
def test_it_starts_after_a_number_of_epochs_or_a_share_of_the_run(start, first):
    memory = CrossBatchMemory(size=8, start=start)
    if first:
        assert memory(batch(0), step_at(first - 1)) is None and memory.diagnostics() == {}
    assert memory(batch(1), step_at(first)) is None
    assert len(memory(batch(2), step_at(first + 1))) == 4


def test_ages_are_those_of_the_rows_that_a_step_saw():
    memory = CrossBatchMemory(size=6, start=0)
    for iteration in (0, 1, 5):
        memory(batch(iteration), step_at(iteration))
    # Of the rows of iterations 0 and 1, two and four are left.
    assert memory.diagnostics() == {'age': pytest.approx((2 * 5 + 4 * 4) / 6), 'oldest': 5}


def head_and_neck(**options):
    sources = dict(memory=dict(type='CrossBatchMemory', size=8, start=0))
    return EmbeddingHead(
        dict(type='ContrastiveLoss'), sources=sources, diagnostics_interval=1, **options
    ), LinearEmbedding(4, WIDTH)


@pytest.mark.parametrize('exclude', [False, True])
def test_in_the_head_it_equals_a_batch_made_by_hand(exclude):
    """Of which the images are seen again, so that their old rows are positives, or left out."""
    head, neck = head_and_neck(exclude_same_image=exclude)
    indices, old = torch.arange(4), batch(1).embeddings
    head.loss(old, LABELS, indices, neck, step_at(0))
    new = batch(2).embeddings.detach().requires_grad_()
    log = head.loss(new, LABELS, indices, neck, step_at(1))
    anchors = Rows(normalize(new), LABELS, torch.arange(4), indices)
    rows = Rows(normalize(torch.cat([new, old.detach()])), LABELS.repeat(2), torch.arange(8), indices.repeat(2))
    pairs = PairBatch(anchors, rows, exclude_same_image=exclude)
    assert pairs.positive_mask.sum() == (8 if exclude else 12)
    torch.testing.assert_close(log['loss'], ContrastiveLoss()(pairs))
    assert log['memory_candidates'] == 4 and log['memory_age'] == 1 and 0 < log['memory_gradient_share'] < 1
    log['loss'].backward()
    assert old.grad is None and new.grad.abs().sum() > 0


def test_beside_iaa_a_remembered_row_shares_no_view_with_a_copy():
    sources = dict(
        iaa=dict(type='IAAGenerator', num_copies=2, lam=0.5, onset=0),
        memory=dict(type='CrossBatchMemory', size=8, start=0),
    )
    head = EmbeddingHead(dict(type='ContrastiveLoss'), sources=sources)
    raw = batch(0).embeddings
    data = Embeddings(raw.detach(), LABELS, torch.arange(4), 2)
    head.sources['iaa'].estimator.receive_embeddings(data, step_at(0).progress)
    for iteration in (0, 1):
        head.loss(raw, LABELS, torch.arange(4), LinearEmbedding(4, WIDTH), step_at(iteration))['loss'].backward()
    # Synthetic rows are not remembered.
    assert len(head.sources['memory'](batch(2), step_at(2))) == 8


@pytest.mark.parametrize('division', ['slices', 'masks'])
def test_each_learner_and_the_whole_embedding_remember_their_own_rows(division):
    head = DivideAndConquerHead(
        dict(type='ContrastiveLoss'), sources=dict(memory=dict(type='CrossBatchMemory', size=64, start=0))
    )
    neck = DivideAndConquerEmbedding(in_channels=5, embed_dim=10, num_learners=4, division=division)
    head.bind(neck)
    neck.divide(4)
    memory, features = head.sources['memory'], torch.randn(4, 5)
    for iteration, learner in enumerate((0, 1, 0, 3)):
        step = step_at(iteration)
        if learner is not None:
            step = dataclasses.replace(step, learner=neck.active(learner))
        value = head.loss(neck(features, learner), LABELS, torch.arange(4), neck, step)['loss']
        value.backward()
        assert torch.isfinite(value)
    assert {key: queue.filled for key, queue in memory._queues.items()} == {0: 8, 1: 4, 3: 4}
    # The joint stage begins with rows of its own, not with those of a warm-up, and so does a finer division.
    for iteration, (learner, of) in enumerate(((None, 1), (None, 1), (0, 2), (1, 2), (0, 4))):
        step = step_at(4 + iteration)
        if learner is not None:
            step = dataclasses.replace(step, learner=neck.active(learner)._replace(of=of))
        memory(Rows.of_batch(torch.randn(4, 10), LABELS), step)
        if iteration == 2:
            again = CrossBatchMemory(size=64)
            again.load_run_state(memory.run_state())
            memory = again
    assert {key: queue.filled for key, queue in memory._queues.items()} == {0: 4}


def test_a_queue_starts_anew_when_the_width_changes():
    memory = CrossBatchMemory(size=8, start=0)
    memory(batch(0), step_at(0))
    assert memory(batch(1, width=3), step_at(1)) is None
    assert memory(batch(2, width=3), step_at(2)).embeddings.shape == (4, 3)


def test_ranks_that_do_not_gather_are_refused_and_those_that_do_hold_one_queue():
    with pytest.raises(ValueError, match='must be equal on all ranks: set gather=True'):
        CrossBatchMemory()(batch(0), step_at(50, world_size=2))
    # What the head passes on after gathering: the rows of all ranks, as one process with the whole batch.
    queues = [CrossBatchMemory(size=8, start=0) for _ in range(2)]
    for iteration in range(3):
        steps = [step_at(iteration, rank=rank, world_size=2).with_shared_rows() for rank in range(2)]
        seen = [queue(batch(iteration), step) for queue, step in zip(queues, steps, strict=True)]
    assert torch.equal(seen[0].embeddings, seen[1].embeddings)


def three_steps(part=slice(None), **ranks):
    """State of a memory in a head, after three steps with a part of each batch."""
    head, neck = head_and_neck()
    for iteration in range(3):
        rows = batch(iteration, rows=8)[part]
        head.loss(rows.embeddings, rows.labels, rows.indices, neck, step_at(iteration, **ranks))['loss'].backward()
    return head.sources['memory'].run_state()['-1']


def on_a_rank(rank, world_size, out):
    part = slice(4 * rank, 4 * rank + 4)
    torch.save(three_steps(part, rank=rank, world_size=world_size), f'{out}/{rank}.pth')


@pytest.mark.slow
def test_two_ranks_hold_the_queue_of_one_process_with_the_global_batch(tmp_path):
    run_group(on_a_rank, str(tmp_path))
    expected = three_steps()
    for rank in range(2):
        state = torch.load(tmp_path / f'{rank}.pth')
        assert state.keys() == expected.keys() and state['filled'] == expected['filled'] == 8
        assert all(torch.equal(torch.as_tensor(state[key]), torch.as_tensor(expected[key])) for key in state)


def test_state_is_plain_data_and_continues_as_if_uninterrupted():
    whole = CrossBatchMemory(size=6, start=0)
    for iteration in range(3):
        whole(batch(iteration), step_at(iteration))
    file = io.BytesIO()
    torch.save(whole.run_state(), file)
    file.seek(0)
    again = CrossBatchMemory(size=6, start=0)
    again.load_run_state(torch.load(file, weights_only=True))
    for iteration in range(3, 6):
        ours, theirs = (memory(batch(iteration), step_at(iteration)) for memory in (again, whole))
        for name in ('embeddings', 'labels', 'indices', 'views'):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
        assert again.diagnostics() == whole.diagnostics()
    with pytest.raises(ValueError, match='has size=4, but the checkpoint has queues of 6 rows'):
        CrossBatchMemory(size=4).load_run_state(whole.run_state())
    # Early checkpoints do not say of how many learners the queues are.
    again.load_run_state({key: value for key, value in whole.run_state().items() if key != 'learners'})
    assert len(again(batch(7), step_at(7))) == 6


def test_a_resumed_run_is_bit_equal(pictures, tmp_path):
    cfg = tiny_config(
        pictures,
        tmp_path / 'whole',
        config='cross_batch_memory/xbm_contrastive_conv4_omniglot.py',
        train_cfg__max_epochs=3,
        model__head__sources__memory=dict(type='CrossBatchMemory', size=10, start=0.2),
        default_hooks__checkpoint__max_keep_ckpts=-1,
    )
    whole = train(cfg)
    final = weights(whole)
    assert whole.message_hub.get_scalar('train/memory_age').current() > 0
    for epoch in (1, 2):
        cfg.work_dir, cfg.resume = str(tmp_path / f'from_{epoch}'), True
        cfg.load_from = str(tmp_path / f'whole/epoch_{epoch}.pth')
        again = weights(train(cfg))
        assert again.keys() == final.keys() and all(torch.equal(again[key], final[key]) for key in final)
    saved = torch.load(tmp_path / 'whole/epoch_3.pth', weights_only=False)
    assert saved['mmdml']['model.head.sources.memory']['-1']['filled'] == 10
    assert not [key for key in saved['state_dict'] if 'memory' in key]


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(size=0), 'size must be an integer of at least 1, got 0'),
        (dict(start=-1), 'start must be epochs'),
        (dict(start=1.5), 'start must be epochs .* got 1.5'),
    ],
)
def test_bad_options_name_what_would_be_right(options, words):
    with pytest.raises(ValueError, match=words):
        CrossBatchMemory(**options)
