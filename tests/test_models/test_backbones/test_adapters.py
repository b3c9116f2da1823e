"""LoRA and visual prompts around tiny transformers of timm and mmpretrain."""

import copy
import runpy
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tiny import REPO

from mmdml.apis import get_model
from mmdml.models.backbones import PromptedBackbone
from mmdml.registry import MODELS

TIMM = dict(type='TimmModel', model_name='test_vit', img_size=64, dynamic_img_size=True)
MMPRETRAIN = dict(
    type='mmpretrain.VisionTransformer',
    arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
    img_size=64,
    out_type='cls_token',
)
BACKBONES = {'timm': (TIMM, 'GlobalAveragePooling', 64), 'mmpretrain': (MMPRETRAIN, 'GlobalAveragePooling', 16)}
ADAPTERS = {
    'lora': dict(type='LoRABackbone', rank=2, alpha=4),
    'deep prompts': dict(type='PromptedBackbone', num_prompts=3),
    'shallow prompts': dict(type='PromptedBackbone', num_prompts=3, deep=False),
}
PICTURES = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def config(package, adapter=None):
    backbone, pooling, width = BACKBONES[package]
    return dict(
        type='ImageEmbedder',
        data_preprocessor=dict(mean=[127.0] * 3, std=[64.0] * 3),
        backbone={**ADAPTERS[adapter], 'backbone': backbone} if adapter else backbone,
        pooling=dict(type=pooling),
        neck=dict(type='LinearEmbedding', in_channels=width, embed_dim=8),
        head=dict(type='EmbeddingHead', loss=dict(type='TripletLoss', margin=2.0)),
    )


def build(package, adapter=None, seed=0):
    init_default_scope('mmdml')
    torch.manual_seed(seed)
    return MODELS.build(copy.deepcopy(config(package, adapter)))


def trained(package, adapter):
    """A model whose added weights were moved from where they start."""
    model = build(package, adapter)
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model.eval()


@pytest.mark.parametrize('package', BACKBONES)
@pytest.mark.parametrize('adapter', ADAPTERS)
def test_a_step_moves_the_added_weights_alone(package, adapter):
    model = build(package, adapter)
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):  # LoRA's A has no gradient while B is 0
        optimizer.zero_grad()
        model(PICTURES).square()[:, 0].sum().backward()
        optimizer.step()
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    names = ('.down', '.up') if adapter == 'lora' else ('.prompts',)
    added = {name for name in before if name.startswith('backbone.') and name.endswith(names)}
    assert moved == added | {name for name in before if name.startswith('neck.')}
    assert len(added) == {'lora': {'timm': 24, 'mmpretrain': 8}[package]}.get(adapter, 1)


@pytest.mark.parametrize('package', BACKBONES)
def test_lora_begins_as_the_bare_backbone_and_merges_into_one(package):
    bare, model = build(package), build(package, 'lora')
    own = {f'backbone.{name}': value for name, value in model.backbone.plain_weights().items()}
    bare.load_state_dict({**model.neck.state_dict(prefix='neck.'), **own})
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(PICTURES), bare.eval()(PICTURES))
        model = trained(package, 'lora')
        own = {f'backbone.{name}': value for name, value in model.backbone.plain_weights().items()}
        assert (model(PICTURES) - bare(PICTURES)).abs().max() > 0.01
        bare.load_state_dict({**model.neck.state_dict(prefix='neck.'), **own})
        torch.testing.assert_close(model(PICTURES), bare(PICTURES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('package', BACKBONES)
def test_prompts_are_further_tokens_of_every_block(package):
    model = trained(package, 'deep prompts')
    transformer = getattr(model.backbone.network, 'timm_model', model.backbone.network)
    blocks = transformer.blocks if package == 'timm' else transformer.layers
    seen = []
    for block in blocks:
        block.register_forward_hook(lambda block, args, out: seen.append((args[0], out)))
    with torch.no_grad():
        model(PICTURES)
    for at, (tokens, _) in enumerate(seen):
        assert torch.equal(tokens[:, -3:], model.backbone.prompts[at].expand(4, -1, -1))
        if at:
            assert torch.equal(tokens[:, :-3], seen[at - 1][1][:, :-3])
    # The last block cuts them off, before its other hooks.
    assert seen[-1][1].shape[1] == seen[-1][0].shape[1] - 3


def test_a_copy_of_a_prompted_model_inserts_its_own_prompts():
    model = trained('timm', 'deep prompts')
    twin = copy.deepcopy(model)
    with torch.no_grad():
        expected = model(PICTURES)
        model.backbone.prompts.zero_()
        assert not torch.allclose(model(PICTURES), expected, atol=1e-4)
        torch.testing.assert_close(twin(PICTURES), expected)


@pytest.mark.parametrize('adapter', ['lora', 'deep prompts'])
def test_a_checkpoint_has_what_was_trained_and_refuses_other_frozen_weights(adapter, tmp_path):
    model = trained('mmpretrain', adapter)
    state = model.state_dict()
    assert all(name.startswith('neck.') or name.endswith(('.down', '.up', '.prompts', 'checksums')) for name in state)
    torch.save({'state_dict': state}, tmp_path / 'adapters.pth')
    with pytest.raises(ValueError, match='beside other frozen weights'):
        torch.manual_seed(1)
        get_model(Config(dict(model=config('mmpretrain', adapter))), pretrained=tmp_path / 'adapters.pth')
    # The file of the bare backbone, which init_weights reads before the added weights are loaded.
    cfg = Config(dict(model=config('mmpretrain', adapter)))
    cfg.model.backbone.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'bare.pth'))
    torch.save({'state_dict': build('mmpretrain').backbone.state_dict()}, tmp_path / 'bare.pth')
    torch.manual_seed(1)
    again = get_model(cfg, pretrained=tmp_path / 'adapters.pth')
    with torch.no_grad():
        torch.testing.assert_close(again(PICTURES), model(PICTURES))


def test_a_merged_checkpoint_has_a_config_and_embeds_the_same(tmp_path):
    tool = SimpleNamespace(**runpy.run_path(f'{REPO}/tools/model_converters/merge_adapters.py'))
    model = trained('timm', 'lora')
    # timm's own layout, with a classifier.
    weights = build('timm').backbone.timm_model.state_dict()
    torch.save({**weights, 'head.weight': torch.zeros(1000, 64), 'head.bias': torch.zeros(1000)}, tmp_path / 'timm.pth')
    cfg = Config(dict(model=config('timm', 'lora')))
    cfg.model.backbone.backbone.checkpoint = str(tmp_path / 'timm.pth')
    cfg.dump(tmp_path / 'lora.py')
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'trained.pth')
    torch.manual_seed(1)
    tool.merge(tmp_path / 'lora.py', tmp_path / 'trained.pth', tmp_path / 'merged.pth')
    (tmp_path / 'timm.pth').unlink()
    merged = get_model(tmp_path / 'merged.py', pretrained=tmp_path / 'merged.pth')
    assert type(merged.backbone).__name__ == 'TimmModel'
    with torch.no_grad():
        torch.testing.assert_close(merged(PICTURES), model(PICTURES), rtol=1e-4, atol=1e-5)


def test_prompts_cannot_be_merged_and_say_so():
    with pytest.raises(ValueError, match='PromptedBackbone computes what no bare backbone does'):
        build('timm', 'deep prompts').backbone.plain_weights()


@pytest.mark.parametrize(
    ('adapter', 'message'),
    [
        (dict(type='LoRABackbone', rank=0), 'rank must be an integer of at least 1, got 0'),
        (
            dict(type='LoRABackbone', targets=['query']),
            r"names no linear layer .* it has \['fc1', 'fc2', 'proj', 'qkv'",
        ),
        (dict(type='PromptedBackbone', num_prompts=0), 'num_prompts must be an integer of at least 1, got 0'),
    ],
)
def test_a_wrong_value_is_named(adapter, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build({**adapter, 'backbone': TIMM})


def test_a_backbone_without_a_sequence_is_refused():
    with pytest.raises(ValueError, match='no blocks and width of a plain vision transformer'):
        PromptedBackbone(dict(type='Conv4', channels=4))


@pytest.mark.parametrize('inner', ['lora', 'deep prompts'])
def test_adapters_of_a_backbone_that_has_some_are_refused(inner):
    adapted = {**ADAPTERS[inner], 'backbone': MMPRETRAIN}
    with pytest.raises(ValueError, match=f'LoRABackbone would freeze the adapters of {adapted["type"]}: use one'):
        MODELS.build({**ADAPTERS['lora'], 'backbone': adapted})


@pytest.mark.parametrize('adapter', ADAPTERS)
def test_an_adapted_model_is_traced_for_batches_of_any_size(adapter):
    model = trained('mmpretrain', adapter)
    model(PICTURES)  # the first pass of LoRA looks at what is called
    with torch.no_grad():
        program = torch.export.export(
            model, (PICTURES[:2],), dynamic_shapes=dict(inputs={0: torch.export.Dim.DYNAMIC}), strict=False
        )
        torch.testing.assert_close(program.module()(PICTURES[:3]), model(PICTURES[:3]))


def test_a_layer_that_is_never_called_is_named():
    model = MODELS.build(dict(type='LoRABackbone', backbone=TIMM))
    attention = model.network.timm_model.blocks[0].attn
    attention.forward = lambda tokens, **kwargs: attention.proj(tokens)
    with pytest.raises(ValueError, match='does not call timm_model.blocks.0.attn.qkv'):
        model(PICTURES)
