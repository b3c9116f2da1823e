import os.path as osp

from mmengine.config import Config
from tiny import REPO, tiny_config, train

PLAIN = 'multi_similarity/ms_conv4_omniglot.py'


def test_the_paper_config_lets_the_embedding_layer_learn_ten_times_as_fast(pictures, tmp_path):
    paper = Config.fromfile(osp.join(REPO, 'configs/iaa/iaa_ms_r50_cub_paper.py'))
    cfg = tiny_config(pictures, tmp_path, config=PLAIN, train_cfg__max_epochs=1, param_scheduler=None)
    cfg.optim_wrapper = paper.optim_wrapper
    runner = train(cfg)
    rates = {
        name: group['lr']
        for group in runner.optim_wrapper.optimizer.param_groups
        for name, parameter in runner.model.named_parameters()
        if any(parameter is member for member in group['params'])
    }
    assert {rate for name, rate in rates.items() if name.startswith('neck.')} == {1e-3}
    assert {rate for name, rate in rates.items() if name.startswith('backbone.')} == {1e-4}


def test_the_warm_up_preset_joins_any_config(pictures, tmp_path):
    (tmp_path / 'warm.py').write_text(
        f"_base_ = ['{REPO}/configs/{PLAIN}', '{REPO}/configs/_base_/presets/frozen-backbone_5e.py']\n"
    )
    cfg = Config.fromfile(str(tmp_path / 'warm.py'))
    assert cfg.custom_hooks == [dict(type='FreezeBackboneHook', epochs=5)] and cfg.find_unused_parameters
    assert cfg.model.head.loss.type == 'MultiSimilarityLoss'


def test_the_released_values_of_cub_with_ms_are_kept():
    cfg = Config.fromfile(osp.join(REPO, 'configs/iaa/iaa_ms_r50_cub.py'))
    iaa = cfg.model.head.sources.iaa
    assert cfg.optim_wrapper.optimizer == dict(type='Adam', lr=5e-5, weight_decay=1e-5)
    assert cfg.param_scheduler.milestones == [40, 60, 80] and cfg.param_scheduler.gamma == 0.2
    assert (iaa.lam, iaa.num_copies, iaa.onset, iaa.update_interval) == (0.8, 3, 30, 2)
    assert cfg.train_dataloader.batch_size == 128 and cfg.train_dataloader.sampler.images_per_class == 4
    assert cfg.model.pooling.type == 'GlobalAverageMaxPooling' and cfg.model.neck.embed_dim == 512
    assert cfg.model.freeze_bn_stats and cfg.train_cfg.max_epochs == 100
