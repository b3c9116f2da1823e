default_scope = 'mmdml'

default_hooks = dict(
    runtime_info=dict(type='RuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    # Evaluations are logged at the number of updates, as training is.
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # The last checkpoint only. A best one needs validation classes:
    # default_hooks.checkpoint.save_best=retrieval/MAP@R (see _base_/datasets/*_val.py).
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1, rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    dataset_columns=dict(type='DatasetColumnsHook'),
    step_context=dict(type='StepContextHook'),
    run_state=dict(type='RunStateHook'),
    norm_statistics=dict(type='NormStatisticsHook'),
    finite_loss=dict(type='FiniteLossHook', interval=50),
    sweep=dict(type='SweepHook'),
    epoch_seed=dict(type='EpochSeedHook'),
    console=dict(type='ConsoleHook'),
    summary=dict(type='SummaryHook'),
    selection_guard=dict(type='SelectionGuardHook'),
    resumed_evaluation=dict(type='ResumedEvaluationHook'),
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='Visualizer', vis_backends=vis_backends)

log_processor = dict(type='FreshLogProcessor')
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0)
