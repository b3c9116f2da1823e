"""Targets from columns of the training set, against loops over the labels of two images."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from tiny import tiny_config, train

from mmdml.models.heads import EmbeddingHead
from mmdml.models.necks import IdentityEmbedding
from mmdml.models.targets import HierarchyTargets, LabelSetTargets
from mmdml.registry import MODELS
from mmdml.structures import Progress, Rows, StepContext

LABELS = np.array([0, 0, 1, 2, 3])
COARSE = np.array(['fruit', 'fruit', 'fruit', 'milk', 'milk'])
CELLS = np.array(['cat|indoor', 'cat=0.5|dog=0.5', 'dog', '', 'indoor = 2 |cat'])


def rows(images, views=None):
    number = len(images)
    views = torch.arange(number) if views is None else torch.tensor(views)
    return Rows(torch.zeros(number, 2), torch.tensor(LABELS)[images], views, torch.tensor(images))


def test_a_hierarchy_gives_the_share_of_common_levels():
    targets = HierarchyTargets(levels=['coarse'])
    targets.read_columns(LABELS, dict(coarse=COARSE))
    batch = rows([0, 1, 2, 3, 4])
    expected = [[(int(COARSE[i] == COARSE[j]) + int(LABELS[i] == LABELS[j])) / 2 for j in range(5)] for i in range(5)]
    torch.testing.assert_close(targets(batch, batch), torch.tensor(expected, dtype=torch.float32))
    hard = HierarchyTargets(levels='coarse', values=[0, 1, 1])
    hard.read_columns(LABELS, dict(coarse=COARSE))
    assert hard(batch, batch)[0].tolist() == [1, 1, 1, 0, 0]


def test_a_level_is_in_common_only_if_all_coarser_ones_are():
    targets = HierarchyTargets(levels=['a', 'b'])
    targets.read_columns(np.array([7, 7, 8]), dict(a=np.array([0, 1, 0]), b=np.array(['x', 'x', 'y'])))
    batch = Rows(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), torch.arange(3), torch.arange(3))
    torch.testing.assert_close(targets(batch, batch), torch.tensor([[3, 0, 1], [0, 3, 0], [1, 0, 3]]) / 3)


def weights_of(cell):
    found = {}
    for part in filter(str.strip, cell.split('|')):
        name, _, weight = part.partition('=')
        found[name.strip()] = float(weight or 1)
    return found


@pytest.mark.parametrize('measure', ['jaccard', 'any', 'product'])
def test_label_sets_equal_a_loop(measure):
    targets = LabelSetTargets(column='tags', measure=measure)
    targets.read_columns(LABELS, dict(tags=CELLS))
    batch = rows([4, 3, 2, 1, 0])
    found = targets(batch, batch)
    for i, left in enumerate(CELLS[::-1]):
        for j, right in enumerate(CELLS[::-1]):
            a, b = weights_of(left), weights_of(right)
            pairs = [(a.get(name, 0), b.get(name, 0)) for name in {*a, *b}]
            expected = {
                'jaccard': sum(map(min, pairs)) / (sum(map(max, pairs)) or 1),
                'any': float(any(x * y for x, y in pairs)),
                'product': min(1, sum(x * y for x, y in pairs)),
            }[measure]
            assert found[i, j].item() == pytest.approx(expected, abs=1e-6)


def test_candidates_without_an_image_take_the_mean_of_their_parents():
    targets = HierarchyTargets(levels=['coarse'])
    targets.read_columns(LABELS, dict(coarse=COARSE))
    anchors = rows([0, 2, 3])
    # A mixture of the first two anchors, a copy of the third one, and a remembered image.
    candidates = Rows(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), torch.tensor([[0, 1], [2, -1], [-1, -1]]),
                      torch.tensor([-1, 3, 4]))  # fmt: skip
    expected = [[(1 + 0.5) / 2, 0, 0], [(0.5 + 1) / 2, 0, 0], [0, 1, 0.5]]
    torch.testing.assert_close(targets(anchors, candidates), torch.tensor(expected))
    mixed = Rows.cat([anchors, Rows(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([[0, 2]]), None,
                                    torch.tensor([2]), torch.tensor([0.75]))])  # fmt: skip
    torch.testing.assert_close(targets(anchors, mixed)[:, 3], torch.tensor([0.75, 0.75 * 0.5, 0.25]))
    orphan = candidates.with_embeddings(candidates.embeddings)
    orphan.views, orphan.indices = torch.full((3, 1), -1), torch.full((3,), -1)
    with pytest.raises(ValueError, match='needs an image or a parent of each candidate'):
        targets(anchors, orphan)


@pytest.mark.parametrize('generator', ['EmbeddingExpansion', 'SymmetricalSynthesis'])
@pytest.mark.parametrize('positives', [True, False])
def test_a_row_between_two_has_the_targets_of_these_two_and_not_of_its_class(generator, positives):
    cells, labels = np.array(['a', 'a', 'b', 'b', 'a', 'c']), np.array([0, 0, 0, 0, 1, 1])
    targets = LabelSetTargets(measure='jaccard')
    targets.read_columns(labels, dict(labels=cells))
    raw = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    anchors = Rows.of_batch(raw, torch.tensor(labels), torch.arange(6))
    made = MODELS.build(dict(type=generator, positives=positives))(anchors, StepContext(Progress(0, 10, 10)))
    found = targets(anchors, Rows.cat([anchors, made]))[:, len(anchors) :]
    for column, (first, second) in enumerate(made.views[:, :2].tolist()):
        expected = [(float(cell == cells[first]) + float(cell == cells[second])) / 2 for cell in cells]
        assert found[:, column].tolist() == expected


def test_a_head_trains_on_them_with_memory_and_refuses_a_loss_that_cannot():
    options = dict(targets=dict(type='HierarchyTargets', levels=['coarse']))
    head = EmbeddingHead(
        dict(type='MultiSimilarityLoss'),
        sources=dict(memory=dict(type='CrossBatchMemory', size=8, start=0)),
        **options,
    )
    head.targets.read_columns(LABELS, dict(coarse=COARSE))
    raw = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for iteration in range(2):
        step = StepContext(Progress(iteration, 10, 5))
        loss = head.loss(raw, torch.tensor(LABELS), torch.arange(5), IdentityEmbedding(2), step)['loss']
    loss.backward()
    assert torch.isfinite(raw.grad).all() and raw.grad.abs().sum() > 0
    triplet = EmbeddingHead(dict(type='TripletLoss'), **options)
    triplet.targets.read_columns(LABELS, dict(coarse=COARSE))
    with pytest.raises(ValueError, match='TripletLoss cannot use soft targets: each must be 0 or 1, got 0.5'):
        triplet.loss(raw, torch.tensor(LABELS), torch.arange(5), IdentityEmbedding(2))


def test_bad_input_is_named():
    batch = rows([0, 1])
    with pytest.raises(RuntimeError, match='has not read the columns of the training set: default_hooks needs'):
        LabelSetTargets()(batch, batch)
    with pytest.raises(ValueError, match=r"needs the column 'coars' .* \['coarse'\]; did you mean 'coarse'"):
        HierarchyTargets(['coars']).read_columns(LABELS, dict(coarse=COARSE))
    for values in (0.5, [0, float('nan'), 1], [0, '0.5', 1]):
        with pytest.raises(ValueError, match='values must be 3 rising numbers'):
            HierarchyTargets(['coarse'], values)
    with pytest.raises(ValueError, match='values must be 3 rising numbers'):
        HierarchyTargets(['coarse'], values=[0, 1])
    with pytest.raises(ValueError, match='at least one column in levels'):
        HierarchyTargets([])
    with pytest.raises(ValueError, match="measure must be one of .*, got 'cosine'"):
        LabelSetTargets(measure='cosine')
    for cell, text in (('a=-1', "the weight of 'a' in 'a=-1' must be positive"), ('a|a', "stands twice in 'a|a'")):
        with pytest.raises(ValueError, match=text):
            LabelSetTargets('tags').read_columns(LABELS[:1], dict(tags=np.array([cell])))
    with pytest.raises(ValueError, match='has no label in any of 2 images'):
        LabelSetTargets('tags').read_columns(LABELS[:2], dict(tags=np.array(['', ''])))
    known = HierarchyTargets(['coarse'])
    known.read_columns(LABELS, dict(coarse=COARSE))
    batch.indices = torch.tensor([0, -1])
    with pytest.raises(ValueError, match="PackInputs needs 'sample_idx' among its meta_keys"):
        known(batch, batch)


def test_a_run_reads_the_columns_of_its_list_and_scores_by_them(pictures, tmp_path):
    """Classes of a list with a table of classes: soft targets in training, graded relevance in the evaluation."""
    lines = [f'{pictures}/class_{label}/{number}.png {label}' for label in range(8) for number in range(3)]
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    (tmp_path / 'classes.csv').write_text('label,row\n' + ''.join(f'{label},{label // 4}\n' for label in range(8)))
    cfg = tiny_config(pictures, tmp_path / 'run', config='hierarchy/hierarchy_ms_conv4_omniglot.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        pipeline = [dict(type='LoadImageFromFile', color_type='grayscale'), cfg.val_dataloader.dataset.pipeline[-1]]
        pipeline[-1]['meta_keys'] = ('sample_idx', 'img_path', 'row')
        loader.dataset = dict(type='ImageList', ann_file=f'{tmp_path}/list.txt', class_file=f'{tmp_path}/classes.csv',
                              pipeline=pipeline)  # fmt: skip
    cfg.model.head.targets.levels = ['row']
    cfg.val_evaluator.graded = dict(levels=['row'], k=[None, 3])
    cfg.train_cfg.max_epochs = 1
    runner = train(Config.fromstring(cfg.dump(), '.py'))
    codes = runner.model.head.targets._codes
    assert codes.shape == (24, 2) and codes[:, 0].unique().tolist() == [0, 1]
    assert 0 < runner.message_hub.get_scalar('val/retrieval/GradedNDCG').current() <= 100
    assert 'val/retrieval/GradedNDCG@3' in runner.message_hub.log_scalars
