import torch
from mmengine.evaluator import BaseMetric
from tiny import tiny_config, train, weights

from mmdml.registry import METRICS

PLAIN = 'multi_similarity/ms_conv4_omniglot.py'


def logged(folder):
    return next(folder.glob('*/*.log')).read_text()


def run(pictures, folder, **options):
    cfg = tiny_config(pictures, folder, config=PLAIN, train_cfg__max_epochs=1, log_level='INFO', **options)
    return train(cfg)


def test_scoring_first_is_logged_and_changes_nothing(pictures, tmp_path):
    first = run(pictures, tmp_path / 'first', default_hooks__console__score_first=True)
    plain = run(pictures, tmp_path / 'plain')
    log = logged(tmp_path / 'first')
    assert 'before training: Recall@1 ' in log
    assert log.index('before training: Recall@1 ') < log.index('evaluation after epoch 1 of 1: Recall@1 ')
    assert 'before training' not in logged(tmp_path / 'plain')
    for key, value in weights(plain).items():
        assert torch.equal(value, weights(first)[key]), key


def test_progress_has_loss_rate_and_time_left(pictures, tmp_path):
    run(pictures, tmp_path, default_hooks__console__every=0.0)
    lines = [line for line in logged(tmp_path).splitlines() if 'epoch 1 of 1, update ' in line]
    assert len(lines) == 7
    assert 'update 7 of 7: loss ' in lines[-1] and 'learning rate ' in lines[-1] and lines[-1].endswith('0 s left')


def test_a_run_that_does_not_learn_is_reported_once(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, config=PLAIN, train_cfg__max_epochs=3, log_level='INFO')
    cfg.optim_wrapper.optimizer.lr = 0.0
    # All embeddings equal: the layer is multiplied by 0.
    cfg.model.neck.init_cfg = dict(type='Constant', layer='Linear', val=0.0, bias=1.0)
    train(cfg)
    log = logged(tmp_path)
    assert log.count('the run has collapsed or does not learn: Recall@1 0.00 is no better than chance') == 1


@METRICS.register_module()
class OwnFigures(BaseMetric):
    """A metric without a prefix, some of whose figures are no numbers."""

    def process(self, data_batch, data_samples):
        self.results += [1.0] * len(data_samples)

    def compute_metrics(self, results):
        return dict(figure=torch.tensor(3.5), curve=[1.0, 2.0], table=torch.eye(2), note='good')


def test_figures_of_a_metric_of_ones_own_are_shown_whatever_they_are(pictures, tmp_path):
    run(pictures, tmp_path, val_evaluator=[dict(type='RetrievalMetric'), dict(type='OwnFigures')])
    shown = 'figure 3.50, curve (see the log), table (see the log), note (see the log)'
    log = logged(tmp_path)
    lines = [line for line in log.splitlines() if 'evaluation after epoch 1 of 1: ' in line or 'Done: ' in line]
    assert len(lines) == 2 and all('Recall@1 ' in line and shown in line for line in lines)
    assert '[1.0, 2.0]' in log
