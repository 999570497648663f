"""What the recipes of MAE, CAN, MACRL and MOMA share on ImageNet-1k: data, loop and optimiser."""

_base_ = ['../../_base_/default_runtime.py']

# 8 x 512 = 4096 pictures a step; 1,281,167 / 4096 = 312 steps an epoch
batch_size = 512

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='EpochShuffle'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='UnlabelledPictures',
        data_root='data/imagenet/train',
        views=dict(type='AugmentedViews', size=224),
    ),
)
train_cfg = dict(type='ExactEpochLoop')
# the learning rate follows the real batch itself
auto_scale_lr = dict(base_batch_size=8 * batch_size)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='PretrainOptimWrapperConstructor',
    # lr is set at every step by PretrainSchedule; betas and decay of MAE and CAN
    optimizer=dict(type='AdamW', lr=0.0, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
)
# averages over the last 50 steps, as the loss is logged
log_processor = dict(
    custom_cfg=[
        dict(data_src=name, method_name='mean', window_size=50)
        for name in (
            'contrastive',
            'reconstruction',
            'reconstruction_strong',
            'reconstruction_weak',
            'denoising',
            'alignment_moco',
            'alignment_mae',
            'grad_norm',
        )
    ]
)
default_hooks = dict(
    checkpoint=dict(by_epoch=True, interval=1, max_keep_ckpts=2),
    schedule=dict(type='PretrainSchedule'),
    corrupt=dict(type='CorruptPictures', max_share=0.01),
)
# batch norm and the bank see the same rows on every process
model_wrapper_cfg = dict(type='MMDistributedDataParallel', broadcast_buffers=False)
