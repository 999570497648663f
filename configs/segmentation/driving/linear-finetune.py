"""Fine-tuning of the whole ViT under the linear head with batch norm, on images of your own.

Source: driving/linear-bn.py with the optimizer and layer decay of ade20k/upernet.py. For a schedule
of minutes the backbone's learning rate is five times that one's, and the head keeps the probe's
[choices]; at the backbone's rate it learnt the frequent classes alone. No drop-path, which needs
longer schedules [choice].
Command: tools/train.py configs/segmentation/driving/linear-finetune.py --data-root DIR \
    --arch vit_small_patch14_dinov2 --checkpoint CKPT --amp
Published: nothing; compare checkpoints with each other and with the probe, by mIoU_present.
Cost: 200 steps of 8 images, forward and backward: about twice linear-bn.py.
"""

_base_ = './linear-bn.py'

protocol = dict(name='driving_linear_finetune', title='Driving fine-tune')

model = dict(backbone=dict(frozen=False))
optim_wrapper = dict(
    constructor='LayerDepthOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.65, head_lr_mult=20),
    optimizer=dict(lr=5e-4, weight_decay=0.05),
)
max_iters = 200
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=20, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=max_iters, by_epoch=False),
]
default_hooks = dict(
    checkpoint=dict(interval=50),
    # over so few steps the head's batch norm lags behind the backbone
    batch_norm=dict(type='RecomputeBatchNorm'),
)
