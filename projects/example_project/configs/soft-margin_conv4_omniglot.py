_base_ = ['mmdml::multi_similarity/ms_conv4_omniglot.py']

custom_imports = dict(
    imports=['example_project.soft_margin_triplet_loss', 'example_project.class_uniform_sampler'],
    allow_failed_imports=False,
)

model = dict(head=dict(loss=dict(_delete_=True, type='SoftMarginTripletLoss', temperature=0.1)))
train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type='ClassUniformSampler',
        batch_size={{_base_.batch_size}},
        images_per_class={{_base_.images_per_class}},
        num_batches=151,
    )
)
