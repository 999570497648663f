"""What every run has in common: logging, checkpoints, environment.

A run keeps its newest checkpoint only, so that `--resume` can continue from it; ask for more with
`--cfg-options default_hooks.checkpoint.max_keep_ckpts=3`.
"""

custom_imports = dict(imports=['moca.transfer'], allow_failed_imports=False)

default_hooks = dict(
    runtime_info=dict(type='WatchTraining'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LastStepLoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='AtomicCheckpointHook', by_epoch=False, interval=2000, max_keep_ckpts=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
log_processor = dict(by_epoch=False, window_size=50)
log_level = 'INFO'
visualizer = dict(type='mmengine.Visualizer', vis_backends=[dict(type='mmengine.LocalVisBackend')])

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
randomness = dict(seed=0)
load_from = None
resume = False
