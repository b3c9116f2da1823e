_base_ = ['mmdml::proxy_nca/proxy-nca_conv4_omniglot.py']

custom_imports = dict(imports=['example_project.normalized_softmax_loss'], allow_failed_imports=False)

model = dict(
    head=dict(loss=dict(_delete_=True, type='NormalizedSoftmaxLoss', num_classes=964, embed_dim=128, temperature=0.05))
)
