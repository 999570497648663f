"""What every run of image classification has in common: loop, hooks, logging, environment.

A step's rate follows from `RateSchedule`: `optim_wrapper.optimizer.lr` is that of 256 images. The
newest checkpoint is kept, and is written after every epoch.
"""

custom_imports = dict(
    imports=['moca.pretrain', 'moca.evaluation.classification'], allow_failed_imports=False
)

default_hooks = dict(
    runtime_info=dict(type='WatchTraining'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LastStepLoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='AtomicCheckpointHook', by_epoch=True, interval=1, max_keep_ckpts=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    schedule=dict(type='RateSchedule'),
    # images that cannot be decoded: more than that share of the training images ends a run
    corrupt=dict(type='CorruptImages', max_share=0.01),
)
train_cfg = dict(type='ExactEpochLoop', val_interval=1)
# in fp32 with --amp too, as the published answers
val_cfg = dict(type='ValLoop', fp16=False)
test_cfg = dict(type='TestLoop', fp16=False)

val_evaluator = dict(type='ClassAccuracy')
test_evaluator = val_evaluator

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
