"""Fine-tuning of the whole ViT under the linear head with batch norm, on pictures of your own.

Source: driving/linear-bn.py with the optimiser and layer decay of ade20k/upernet.py; the learning
rate is five times its, for a schedule of minutes [choice].
Command: tools/train.py configs/segmentation/driving/linear-finetune.py --data-root DIR \
    --arch vit_small_patch14_dinov2 --checkpoint CKPT --amp
Published: nothing; compare checkpoints with each other and with the probe, by mIoU_present.
Cost: 150 steps of 8 pictures, forward and backward: about one and a half times linear-bn.py.
"""

_base_ = './linear-bn.py'

protocol = dict(name='driving_linear_finetune', title='Driving fine-tune')

model = dict(backbone=dict(frozen=False, drop_path_rate=0.1))
optim_wrapper = dict(
    constructor='LayerDepthOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.65),
    optimizer=dict(lr=5e-4, weight_decay=0.05),
)
max_iters = 150
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=15, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=max_iters, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=50))
