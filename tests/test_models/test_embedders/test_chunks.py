"""A batch in chunks (GradCache): the gradients of one pass, in the memory of one chunk."""

import pytest
import torch
from mmpretrain.structures import DataSample
from torch import nn

from mmdml.models import ImageEmbedder
from mmdml.models.embedders.chunks import in_chunks
from mmdml.registry import MODELS
from mmdml.structures import Embeddings, Progress, StepContext

LABELS = torch.arange(12) // 2 % 3
INPUTS = torch.randn(12, 1, 20, 20, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def model_with(chunk_size=None, dtype=torch.float64, **options):
    torch.manual_seed(0)
    options = dict(freeze_bn_stats=True) | options
    model = ImageEmbedder(
        backbone=dict(type='Conv4', channels=6),
        neck=dict(type='LinearEmbedding', in_channels=6, embed_dim=4, dropout=0.3),
        head=dict(
            type='EmbeddingHead',
            loss=dict(type='MultiSimilarityLoss'),
            sources=dict(
                iaa=dict(type='IAAGenerator', num_copies=2, onset=0),
                memory=dict(type='CrossBatchMemory', size=20, start=0),
            ),
        ),
        chunk_size=chunk_size,
        **options,
    ).to(dtype)
    data = Embeddings(torch.randn(30, 4), torch.arange(3).repeat(10), torch.arange(30), 3)
    model.head.sources['iaa'].estimator.receive_embeddings(data, Progress(0, 10, 5))
    return model.train()


def gradients_after_two_steps(model, dtype=torch.float64, precision=None):
    """Of the second step, which sees the rows of the first one in the memory."""
    samples = [DataSample(metainfo=dict(sample_idx=i)).set_gt_label(int(label)) for i, label in enumerate(LABELS)]
    for iteration in range(2):
        torch.manual_seed(10 + iteration)  # dropout
        model.step = StepContext(Progress(iteration, 10, 5))
        model.zero_grad()
        with torch.autocast('cpu', dtype=precision or torch.bfloat16, enabled=precision is not None):
            loss = model.loss(INPUTS.to(dtype) + iteration, samples)['loss']
        loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize('chunk_size', [1, 5, 6, 12])
@pytest.mark.parametrize('dtype, tolerance', [(torch.float64, 1e-12), (torch.float32, 1e-6)], ids=['fp64', 'fp32'])
def test_gradients_are_those_of_one_pass_with_dropout_synthetic_rows_and_memory(chunk_size, dtype, tolerance):
    expected = gradients_after_two_steps(model_with(dtype=dtype), dtype)
    found = gradients_after_two_steps(model_with(chunk_size, dtype), dtype)
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        assert gradient.abs().sum() > 0
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=float(tolerance * largest), msg=name)


def one_after_the_other(function, inputs, size, model):
    return torch.cat([function(part) for part in inputs.split(size)])


def test_half_precision_gives_the_gradients_of_one_pass_of_the_same_parts(monkeypatch):
    found = gradients_after_two_steps(model_with(5, torch.float32), torch.float32, torch.bfloat16)
    monkeypatch.setattr(
        'mmdml.models.embedders.image_embedder.in_chunks',
        one_after_the_other,
    )
    expected = gradients_after_two_steps(model_with(5, torch.float32), torch.float32, torch.bfloat16)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-7, msg=name)


@MODELS.register_module()
class BackboneWithDropout(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6, momentum=0.3), nn.Dropout(0.5), nn.Tanh())


def test_batch_norms_and_dropout_of_the_backbone_see_each_part_once():
    """Statistics are updated once a part, and the second computation draws what the first one drew."""
    inputs = INPUTS.float()
    results = []
    for through in (in_chunks, one_after_the_other):
        torch.manual_seed(0)
        backbone = BackboneWithDropout().train()
        out = through(lambda part, backbone=backbone: backbone(part).mean((2, 3)), inputs, 5, backbone)
        (out * out.detach().roll(1, 0)).sum().backward()
        results.append((out, *(parameter.grad for parameter in backbone.parameters()), *backbone.buffers()))
    assert backbone[1].momentum == 0.3 and backbone[1].num_batches_tracked == 3
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_the_graph_of_a_step_holds_no_activations_of_the_backbone():
    def saved_bytes(chunk_size):
        kept = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: kept.setdefault(tensor.data_ptr(), tensor.nbytes) and tensor, lambda tensor: tensor
        ):
            model = model_with(chunk_size)
            features = in_chunks(model.extract_feat, INPUTS, chunk_size or 12, model)
        assert features.requires_grad
        return sum(kept.values())

    assert saved_bytes(4) < saved_bytes(None) / 20


def test_a_chunk_of_no_image_is_refused():
    with pytest.raises(ValueError, match='chunk_size must be an integer of at least 1, got 0'):
        model_with(0)
