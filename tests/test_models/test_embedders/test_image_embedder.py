import pytest
import torch
from mmpretrain.structures import DataSample

from mmdml.models import ImageEmbedder
from mmdml.registry import MODELS
from mmdml.structures import Progress, StepContext

SMALL = dict(
    backbone=dict(type='Conv4', channels=8),
    neck=dict(type='LinearEmbedding', in_channels=8, embed_dim=5),
    head=dict(type='EmbeddingHead', loss=dict(type='ContrastiveLoss')),
)


def samples(*labels):
    return [DataSample(metainfo=dict(sample_idx=10 + i)).set_gt_label(label) for i, label in enumerate(labels)]


@pytest.fixture
def pictures_and_model():
    torch.manual_seed(0)
    return torch.randn(4, 1, 28, 28), ImageEmbedder(**SMALL).eval()


def test_tensor_mode_gives_unit_rows(pictures_and_model):
    inputs, model = pictures_and_model
    unit = model(inputs)
    assert unit.shape == (4, 5)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(4))


def test_predict_mode_adds_the_same_rows_to_the_samples(pictures_and_model):
    inputs, model = pictures_and_model
    unit = model(inputs)
    for given in (samples(0, 0, 1, 1), None):
        predicted = model(inputs, given, mode='predict')
        torch.testing.assert_close(torch.stack([sample.embedding for sample in predicted]), unit)
    assert [sample.sample_idx for sample in model(inputs, samples(0, 0, 1, 1), mode='predict')] == [10, 11, 12, 13]


def test_loss_mode_hands_labels_and_data_set_indices_to_the_head(pictures_and_model):
    inputs, model = pictures_and_model
    received = []
    model.step = StepContext(Progress(0, 10, 10), receivers=(received.append,))
    loss = model(inputs, samples(0, 0, 1, 1), mode='loss')['loss']
    assert loss.requires_grad and loss.ndim == 0
    (rows,) = received
    assert rows.labels.tolist() == [0, 0, 1, 1] and rows.indices.tolist() == [10, 11, 12, 13]
    assert not rows.embeddings.requires_grad


def test_what_is_missing_is_named(pictures_and_model):
    inputs, model = pictures_and_model
    with pytest.raises(ValueError, match="with 'gt_label'"):
        model(inputs, [DataSample()] * 4, mode='loss')
    with pytest.raises(ValueError, match="one of .*got 'features'"):
        model(inputs, mode='features')
    headless = ImageEmbedder(**{**SMALL, 'head': None})
    with pytest.raises(ValueError, match='needs a head'):
        headless(inputs, samples(0, 0, 1, 1), mode='loss')


def test_frozen_batch_norms_keep_statistics_while_their_affine_trains():
    torch.manual_seed(0)
    model = ImageEmbedder(**SMALL, freeze_bn_stats=True).train()
    norm = model.backbone.blocks[1]
    before = norm.running_mean.clone()
    model(torch.randn(4, 1, 28, 28) + 3, samples(0, 0, 1, 1), mode='loss')['loss'].backward()
    assert torch.equal(norm.running_mean, before)
    assert norm.weight.grad.abs().sum() > 0 and norm.bias.requires_grad
    free = ImageEmbedder(**SMALL).train()
    free(torch.randn(4, 1, 28, 28) + 3, samples(0, 0, 1, 1), mode='loss')
    assert not torch.equal(free.backbone.blocks[1].running_mean, before)


def test_a_backbone_of_mmpretrain_with_maximum_and_average_pooling_trains():
    model = MODELS.build(
        dict(
            type='ImageEmbedder',
            backbone=dict(type='mmpretrain.ResNet', depth=18),
            pooling=dict(type='GlobalAverageMaxPooling'),
            neck=dict(type='LinearEmbedding', in_channels=512, embed_dim=7),
            head=dict(type='EmbeddingHead', loss=dict(type='TripletLoss')),
        )
    )
    model(torch.randn(4, 3, 64, 64), samples(0, 0, 1, 1), mode='loss')['loss'].backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0


def test_missing_pretrained_weights_say_what_to_do():
    model = ImageEmbedder(
        backbone=dict(
            type='mmpretrain.ResNet', depth=18, init_cfg=dict(type='Pretrained', checkpoint='/nowhere/weights.pth')
        ),
        neck=dict(type='LinearEmbedding', in_channels=512, embed_dim=7),
    )
    with pytest.raises(RuntimeError, match=r'/nowhere/weights.pth(.|\n)*init_cfg'):
        model.init_weights()


def test_channels_last_and_a_compiled_backbone_change_nothing_but_rounding():
    torch.manual_seed(0)
    inputs, values = torch.randn(4, 1, 28, 28), []
    for options in ({}, dict(channels_last=True), dict(compile_backbone=dict(backend='eager'))):
        torch.manual_seed(1)
        model = ImageEmbedder(**SMALL, **options)
        seen = []
        model.backbone.register_forward_hook(lambda module, args, maps, seen=seen: seen.append((args[0], maps[0])))
        loss = model(inputs, samples(0, 0, 1, 1), mode='loss')['loss']
        loss.backward()
        values.append((loss.detach(), *(weight.grad for weight in model.parameters())))
        if 'channels_last' in options:
            assert all(each.is_contiguous(memory_format=torch.channels_last) for each in seen[0])
        names = list(model.state_dict())
        assert names == list(ImageEmbedder(**SMALL).state_dict())
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(values[2], values[0])


def test_labels_stay_where_they_are_and_images_are_normalized():
    preprocessor = MODELS.build(dict(type='ImagePreprocessor', mean=[1.0], std=[2.0]))
    given = samples(3, 4)
    found = preprocessor(dict(inputs=torch.full((2, 1, 2, 2), 5, dtype=torch.uint8), data_samples=given))
    assert torch.equal(found['inputs'], torch.full((2, 1, 2, 2), 2.0))
    assert found['data_samples'] is given and [sample.gt_label.item() for sample in given] == [3, 4]
