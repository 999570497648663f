"""What every pre-training has in common: hooks, logging, loop, environment.

A checkpoint is written every epoch and the newest two are kept.
"""

custom_imports = dict(imports=['moca.pretrain'], allow_failed_imports=False)

default_hooks = dict(
    runtime_info=dict(type='WatchTraining'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LastStepLoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='AtomicCheckpointHook', by_epoch=True, interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # learning rate, weight decay and teacher momentum of every step
    schedule=dict(type='PretrainSchedule'),
    corrupt=dict(type='CorruptImages', max_share=0.01),
)
train_cfg = dict(type='ExactEpochLoop')
# every process holds the same codebook or bank, and batch norm sees the same rows; gradients lie
# where they are averaged, without a copy
model_wrapper_cfg = dict(
    type='MMDistributedDataParallel', broadcast_buffers=False, gradient_as_bucket_view=True
)

log_processor = dict(
    by_epoch=False,
    window_size=50,
    # averages over the last 50 steps, as the loss is logged; a method logs some of them
    custom_cfg=[
        dict(data_src=name, method_name='mean', window_size=50)
        for name in (
            'kl_image',
            'kl_dense',
            'assignment_entropy',
            'words_in_use',
            'words_per_image',
            'contrastive',
            'reconstruction',
            'reconstruction_strong',
            'reconstruction_weak',
            'denoising',
            'alignment_moco',
            'alignment_mae',
            'grad_norm',
        )
    ],
)
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
