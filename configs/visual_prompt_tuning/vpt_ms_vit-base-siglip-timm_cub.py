_base_ = [
    '../_base_/models/vit-base-siglip-timm.py',
    '../_base_/datasets/cub.py',
    '../_base_/schedules/adapters_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(_delete_=True, type='PromptedBackbone', num_prompts=8, deep=True, backbone={{_base_.model.backbone}}),
    head=dict(loss=dict(type='MultiSimilarityLoss')),
)
