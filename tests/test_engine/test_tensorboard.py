from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import tiny_config, train


def test_training_and_evaluation_have_their_own_curves_over_one_axis(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, train_cfg__max_epochs=3)
    cfg.visualizer.vis_backends = [dict(type='TensorboardVisBackend')]
    train(cfg)
    (events,) = tmp_path.glob('*/vis_data/events.out.tfevents.*')
    curves = EventAccumulator(str(events), size_guidance=dict(scalars=0)).Reload()
    steps = {tag: [event.step for event in curves.Scalars(tag)] for tag in curves.Tags()['scalars']}
    assert {tag.partition('/')[0] for tag in steps} == {'train', 'val'}
    assert steps['train/loss'] == list(range(1, 22))
    assert steps['val/retrieval/Recall@1'] == steps['val/time'] == [7, 14, 21]
    assert all(times == sorted(set(times)) for times in steps.values())
