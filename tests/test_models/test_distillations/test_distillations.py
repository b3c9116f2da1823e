"""Distillations: values by hand, gradients that reach the student only, and the moving average of a run as teacher."""

import math

import pytest
import torch
from mmengine.config import Config
from mmpretrain.structures import DataSample
from tiny import tiny_config, train, weights
from torch.nn.functional import normalize

from mmdml.models import EmbeddingHead, ImageEmbedder
from mmdml.models.distillations.base import similarity_divergence
from mmdml.models.necks import DivideAndConquerEmbedding, LinearEmbedding
from mmdml.structures import Progress, StepContext

LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def unit(rows, width, seed=0):
    return normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_divergence_equals_a_loop():
    student, teacher, temperature = unit(4, 3), unit(4, 5, seed=1), 0.5

    def shares(rows, i):
        scores = [math.exp(float(rows[i] @ rows[j]) / temperature) for j in range(4)]
        return [score / sum(scores) for score in scores]

    expected = 0.0
    for i in range(4):
        pairs = zip(shares(teacher, i), shares(student, i), strict=True)
        expected += sum(p * math.log(p / q) for p, q in pairs) * temperature**2 / 4
    student.requires_grad_()
    teacher.requires_grad_()
    value = similarity_divergence(student, teacher, temperature)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    value.backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0
    assert similarity_divergence(student, student, 1.0).item() == pytest.approx(0, abs=1e-6)


def head_with(**options):
    torch.manual_seed(0)
    options = dict(in_channels=7, dims=(8, 9), loss=dict(type='ContrastiveLoss'), feature_start=5) | options
    return EmbeddingHead(dict(type='ContrastiveLoss'), distillations=dict(s2sd=dict(type='S2SD', **options)))


@pytest.mark.parametrize('iteration', [4, 5])
def test_s2sd_is_the_sum_of_its_terms(iteration):
    head, features = head_with(weight=3.0, feature_weight=2.0), torch.randn(6, 7).requires_grad_()
    neck = LinearEmbedding(7, 4)
    step = StepContext(Progress(iteration, 10, 5))
    losses = head.loss(neck(features), LABELS, None, neck, step, features)
    s2sd = head.distillations['s2sd']
    own = normalize(neck(features), dim=1)
    wide = [normalize(space(features), dim=1) for space in s2sd.spaces]
    plain = EmbeddingHead(dict(type='ContrastiveLoss'))
    of_spaces = [plain.loss(rows, LABELS, None, LinearEmbedding(1, 1))['loss'] for rows in wide]
    expected = dict(
        loss_s2sd_spaces=sum(of_spaces) / 2,
        loss_s2sd_similarity=2 * 3.0 * sum(similarity_divergence(own, rows, 1.0) for rows in wide) / 2,
        loss_s2sd_features=2 * 2.0 * similarity_divergence(own, normalize(features, dim=1), 1.0),
    )
    assert set(losses) == {'loss', *expected} - ({'loss_s2sd_features'} if iteration < 5 else set())
    for name in set(losses) & set(expected):
        torch.testing.assert_close(losses[name], expected[name])
    # The wide spaces learn from their own loss alone.
    losses['loss_s2sd_similarity'].backward()
    assert all(parameter.grad is None for parameter in s2sd.parameters()) and features.grad.abs().sum() > 0


def test_s2sd_takes_a_loss_over_proxies_at_each_width_and_the_slice_of_a_learner():
    loss = dict(type='ProxyNCALoss', num_classes=3, embed_dim=4)
    head = head_with(loss=loss)
    assert [part.loss_fn.embed_dim for part in head.distillations['s2sd'].heads] == [8, 9]
    neck = DivideAndConquerEmbedding(7, 4, num_learners=2)
    neck.divide(2)
    raw = torch.randn(6, 4).requires_grad_()
    step = StepContext(Progress(9, 10, 5), neck.active(1))
    head.loss(raw, LABELS, None, neck, step, torch.randn(6, 7))['loss_s2sd_similarity'].backward()
    assert raw.grad[:, :2].abs().sum() == 0 and raw.grad[:, 2:].abs().sum() > 0


def test_s2sd_leaves_the_rows_of_its_spaces_to_itself():
    received = []
    step = StepContext(Progress(9, 10, 5), receivers=(received.append,))
    raw = torch.randn(6, 4)
    head_with(dims=(4,)).loss(raw, LABELS, None, LinearEmbedding(7, 4), step, torch.randn(6, 7))
    assert len(received) == 1 and torch.equal(received[0].embeddings, raw)


def test_bad_options_are_named():
    neck, raw = LinearEmbedding(7, 4), torch.randn(6, 4)
    for options, fault in (
        (dict(dims=()), 'dims must be widths of at least 1'),
        (dict(dims=512), 'dims must be widths of at least 1, one or more, got 512'),
        (dict(weight=-1), 'weight, feature_weight and feature_start must be 0 or more, got -1'),
        (dict(temperature=0), 'temperature must be positive, got 0'),
    ):
        with pytest.raises(ValueError, match=fault):
            head_with(**options)
    with pytest.raises(ValueError, match='S2SD needs the pooled features'):
        head_with().loss(raw, LABELS, None, neck)
    with pytest.raises(ValueError, match="match must be one of .*, got 'logits'"):
        EmbeddingHead(dict(type='ContrastiveLoss'), distillations=dict(t=dict(type='MeanTeacher', match='logits')))
    head = EmbeddingHead(dict(type='ContrastiveLoss'), distillations=dict(t=dict(type='MeanTeacher')))
    with pytest.raises(RuntimeError, match="custom_hooks needs dict\\(type='MeanTeacherHook'\\)"):
        head.loss(raw, LABELS, None, neck, inputs=raw)


def teacher_config(pictures, folder, **options):
    teacher = dict(type='MeanTeacher', match='embedding', start=0)
    options = dict(model__head__distillations=dict(teacher=teacher)) | options
    cfg = tiny_config(pictures, folder, config='multi_similarity/ms_conv4_omniglot.py', **options)
    cfg.custom_hooks = [dict(type='MeanTeacherHook', momentum=0.1)]
    cfg.train_cfg.max_epochs = 2
    return Config.fromstring(cfg.dump(), '.py')


def test_the_average_of_the_student_teaches_it_and_a_resumed_run_continues(pictures, tmp_path):
    runner = train(teacher_config(pictures, tmp_path / 'whole'))
    head = runner.model.head
    (teacher,) = head.distillations['teacher']._teacher
    assert not teacher.training and teacher is not runner.model
    assert not any('_teacher' in key for key in runner.model.state_dict())
    difference = [a - b for a, b in zip(teacher.parameters(), runner.model.parameters(), strict=True)]
    assert any(part.abs().max() > 0 for part in difference)
    distance = runner.message_hub.get_scalar('train/loss_teacher_distance').data[0]
    # At the first step the teacher is the student, but for the statistics of its batch norms.
    assert distance.min() >= 0 and distance.max() > 0

    cfg = teacher_config(pictures, tmp_path / 'stopped')
    cfg.train_cfg.max_epochs = 1
    train(cfg)
    cfg.train_cfg.max_epochs = 2
    cfg.resume = True
    again = train(cfg)
    for key, value in weights(runner).items():
        assert torch.equal(weights(again)[key], value), key
    (resumed,) = again.model.head.distillations['teacher']._teacher
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), teacher.parameters(), strict=True))


def test_s2sd_resumed_in_the_middle_of_a_run_equals_the_uninterrupted_one(pictures, tmp_path):
    s2sd = dict(type='S2SD', in_channels=8, dims=[6, 10], feature_weight=5.0, feature_start=5)
    cfg = tiny_config(
        pictures,
        tmp_path / 'whole',
        config='s2sd/s2sd_ms_conv4_omniglot.py',
        train_cfg__max_epochs=2,
        model__head__distillations__s2sd=dict(_delete_=True, **s2sd),
        default_hooks__checkpoint__max_keep_ckpts=-1,
    )
    final = weights(train(cfg))
    cfg.work_dir, cfg.resume = str(tmp_path / 'resumed'), True
    cfg.load_from = str(tmp_path / 'whole/epoch_1.pth')
    again = weights(train(cfg))
    assert any('distillations.s2sd' in key for key in final)
    assert again.keys() == final.keys() and all(torch.equal(again[key], final[key]) for key in final)


def test_a_hook_without_anything_to_teach_is_refused(pictures, tmp_path):
    cfg = teacher_config(pictures, tmp_path, model__head__distillations=None)
    with pytest.raises(ValueError, match='finds nothing to teach'):
        train(cfg)


def test_the_teacher_embeds_in_the_chunks_and_the_precision_of_the_student():
    head = dict(
        type='EmbeddingHead', loss=dict(type='SupConLoss'), distillations=dict(t=dict(type='MeanTeacher', start=0))
    )
    neck = dict(type='LinearEmbedding', in_channels=8, embed_dim=8)
    student, teacher = (
        ImageEmbedder(backbone=dict(type='Conv4', channels=8), neck=neck, head=head, chunk_size=4) for _ in range(2)
    )
    student.head.distillations['t'].set_teacher(teacher)
    student.step = StepContext(Progress(0, 10, 10))
    seen = []
    teacher.backbone.register_forward_hook(lambda module, given, maps: seen.append((len(given[0]), maps[-1].dtype)))
    samples = [DataSample(metainfo=dict(sample_idx=n)).set_gt_label(n // 4) for n in range(16)]
    images = torch.randn(16, 1, 28, 28)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        student.train().loss(images, samples)
    assert seen == [(4, torch.bfloat16)] * 4
    seen.clear()
    student.loss(images, samples)
    assert seen == [(4, torch.float32)] * 4
