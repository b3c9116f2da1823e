import pytest
import torch
from mmengine.hooks import Hook
from tiny import tiny_config, train

from mmdml.registry import HOOKS

PLAIN = 'multi_similarity/ms_conv4_omniglot.py'


@HOOKS.register_module()
class SpoilWeight(Hook):
    """Puts a value into a weight right after a step."""

    priority = 'VERY_HIGH'

    def __init__(self, after, value):
        self.after, self.value = after, value

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.after:
            with torch.no_grad():
                runner.model.neck.linear.weight[0, 0] = self.value


def config(pictures, work_dir, *hooks, **options):
    cfg = tiny_config(pictures, work_dir, config=PLAIN, custom_hooks=list(hooks), **options)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    return cfg


def test_a_learning_rate_beyond_all_bounds_ends_the_run_with_update_rate_and_remedy(pictures, tmp_path):
    optimizer = dict(_delete_=True, type='SGD', lr=1e30)
    cfg = config(pictures, tmp_path, optim_wrapper__optimizer=optimizer)
    with pytest.raises(RuntimeError, match=r'loss of update 2 is not finite: .*lr=1e\+30.*optimizer.lr.*clip_grad'):
        train(cfg)
    assert not list(tmp_path.glob('*.pth'))


def test_a_loss_that_is_not_finite_later_leaves_the_last_good_checkpoint(pictures, tmp_path):
    cfg = config(pictures, tmp_path, dict(type='SpoilWeight', after=9, value=float('nan')))
    with pytest.raises(RuntimeError, match='update 10 is not finite: nan.*newest good checkpoint is .*epoch_1.pth'):
        train(cfg)
    (checkpoint,) = tmp_path.glob('*.pth')
    assert checkpoint.name == 'epoch_1.pth'
    assert all(value.isfinite().all() for value in torch.load(checkpoint, weights_only=False)['state_dict'].values())


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite_after_the_last_step_of_an_epoch_are_not_saved(pictures, tmp_path, value):
    cfg = config(pictures, tmp_path, dict(type='SpoilWeight', after=14, value=value))
    with pytest.raises(RuntimeError, match='after update 14, 1 values of neck.linear.weight are not finite'):
        train(cfg)
    assert [file.name for file in tmp_path.glob('*.pth')] == ['epoch_1.pth']
    assert not list(tmp_path.glob('.*.tmp'))


class Run:
    """What the hook looks at, where losses are on an accelerator: there is none here."""

    iter, work_dir, hooks = 0, '.', []
    optim_wrapper = type('Wrapper', (), dict(get_lr=lambda self: {'lr': [0.1]}))()


class OnAccelerator(torch.Tensor):
    """A scalar that says it is on an accelerator."""

    @property
    def device(self):
        return torch.device('cuda')


def test_losses_on_an_accelerator_are_looked_at_together_and_the_first_bad_update_is_named():
    hook = HOOKS.build(dict(type='FiniteLossHook', interval=4))
    run = Run()
    for update, value in enumerate([1.0, float('inf'), float('nan')]):
        run.iter = update
        hook.after_train_iter(run, update, outputs=dict(loss=torch.tensor(value).as_subclass(OnAccelerator)))
    run.iter = 3
    with pytest.raises(RuntimeError, match='update 2 is not finite: inf'):
        hook.after_train_iter(run, 3, outputs=dict(loss=torch.tensor(1.0).as_subclass(OnAccelerator)))
    hook.after_train_iter(run, 4, outputs=dict(loss=torch.tensor(float('nan')).as_subclass(OnAccelerator)))
    with pytest.raises(RuntimeError, match='update 4 is not finite: nan'):
        hook.before_val(run)


def test_an_interval_below_one_is_refused():
    with pytest.raises(ValueError, match='interval must be an integer of at least 1, got 0'):
        HOOKS.build(dict(type='FiniteLossHook', interval=0))
